//! Reads a Rust file's tokens for the house rules: its paths, functions, declared modules and macros.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// What the house rules need to know about one file.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) paths: Vec<PathUse>,
    pub(crate) functions: Vec<Function>,
    /// `mod x;`
    pub(crate) declared: Vec<Declared>,
    /// `name!`
    pub(crate) macros: Vec<Word>,
    /// Every identifier that stands alone or starts a path.
    pub(crate) words: Vec<Word>,
    /// Where the first `#[cfg(test)] mod` of the file starts.
    pub(crate) tests_line: Option<usize>,
}

/// A path of two or more segments, groups expanded: `a::{b, c::d}` gives `a::b` and `a::c::d`.
#[derive(Debug)]
pub(crate) struct PathUse {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    pub(crate) in_test: bool,
    /// Inline modules that it stands in.
    pub(crate) depth: usize,
}

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
    /// `pub`, without a restriction.
    pub(crate) is_public: bool,
    /// Its signature names `Option` or `Result`.
    pub(crate) is_fallible: bool,
    pub(crate) in_test: bool,
}

#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// Files that `path` attributes name, one for each platform where they differ.
    pub(crate) files: Vec<String>,
    pub(crate) in_test: bool,
}

#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) line: usize,
    pub(crate) in_test: bool,
}

/// Where the walk is.
#[derive(Clone, Copy)]
struct Place {
    in_test: bool,
    depth: usize,
}

impl Scan {
    /// Reads a file's text; an error names where it is no Rust.
    pub(crate) fn of(text: &str) -> Result<Self, String> {
        let tokens: TokenStream = text
            .parse()
            .map_err(|error: proc_macro2::LexError| format!("line {}: {error}", error.span().start().line))?;
        let mut scan = Self::default();
        scan.walk(tokens, Place { in_test: false, depth: 0 });
        Ok(scan)
    }

    fn walk(&mut self, tokens: TokenStream, outer: Place) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut place = outer;
        let mut test_attribute_line = None;
        let mut files = Vec::new();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    if let Some(attribute) = attribute(&tokens, at) {
                        path_values(attribute, &mut files);
                        if is_cfg_test(attribute) {
                            place.in_test = true;
                            test_attribute_line.get_or_insert(line_of(token));
                        }
                    }
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => {
                    files.clear();
                    (place, test_attribute_line) = (outer, None);
                }
                TokenTree::Group(group) => {
                    let is_module = is_ident(&tokens, at.wrapping_sub(2), "mod");
                    let inner = Place { depth: place.depth + usize::from(is_module), ..place };
                    self.walk(group.stream(), inner);
                    if group.delimiter() == Delimiter::Brace {
                        (place, test_attribute_line) = (outer, None);
                    }
                }
                TokenTree::Ident(ident) => {
                    if let Some(name) = declared_name(&tokens, at) {
                        let files = std::mem::take(&mut files);
                        self.declared.push(Declared { name, files, in_test: place.in_test });
                    }
                    at = self.ident(&tokens, at, &ident.to_string(), place, test_attribute_line);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Takes in the identifier at `at`, and returns where the walk goes on.
    fn ident(&mut self, tokens: &[TokenTree], at: usize, text: &str, place: Place, test_line: Option<usize>) -> usize {
        let line = line_of(&tokens[at]);
        if text == "fn"
            && let Some(name) = ident_at(tokens, at + 1)
        {
            self.function(tokens, at, name, place);
            return at + 2;
        }
        if text == "mod" && ident_at(tokens, at + 1).is_some() {
            if place.in_test && self.tests_line.is_none() {
                self.tests_line = test_line;
            }
            return at + 2;
        }
        let continues_a_path = is_punct(tokens, at.wrapping_sub(1), ':') && is_punct(tokens, at.wrapping_sub(2), ':');
        let is_member = is_punct(tokens, at.wrapping_sub(1), '.');
        if is_member || (continues_a_path && starts_elsewhere(tokens, at)) {
            return at + 1;
        }
        self.words.push(Word { text: text.to_owned(), line, in_test: place.in_test });
        if is_punct(tokens, at + 1, '!') && !is_punct(tokens, at + 2, '=') {
            self.macros.push(Word { text: text.to_owned(), line, in_test: place.in_test });
        }
        self.path(tokens, at, Vec::new(), place)
    }

    /// Follows a path from its identifier at `at`; returns the first token behind it.
    fn path(&mut self, tokens: &[TokenTree], mut at: usize, mut segments: Vec<String>, place: Place) -> usize {
        let line = line_of(&tokens[at]);
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(ident)) => segments.push(ident.to_string()),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => segments.push("*".to_owned()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.group(group, &segments, place);
                    return at + 1;
                }
                _ => break,
            }
            at += 1;
            if !(is_punct(tokens, at, ':') && is_punct(tokens, at + 1, ':')) {
                break;
            }
            at += 2;
        }
        if segments.len() > 1 {
            self.paths.push(PathUse { segments, line, in_test: place.in_test, depth: place.depth });
        }
        at
    }

    /// The members of `prefix::{…}`.
    fn group(&mut self, group: &Group, prefix: &[String], place: Place) {
        let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = self.path(&tokens, at, prefix.to_vec(), place).max(at + 1);
            while at < tokens.len() && !is_punct(&tokens, at, ',') {
                at += 1;
            }
            at += 1;
        }
    }

    fn function(&mut self, tokens: &[TokenTree], at: usize, name: String, place: Place) {
        let body = tokens[at..].iter().position(|token| match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            _ => false,
        });
        let body = body.map_or(tokens.len() - 1, |length| at + length);
        let line = line_of(&tokens[at]);
        let end = tokens[body].span().end().line;
        let is_fallible = (at..body).any(|at| is_ident(tokens, at, "Option") || is_ident(tokens, at, "Result"));
        let is_public = tokens[..at]
            .iter()
            .rev()
            .find(|token| {
                !matches!(token, TokenTree::Ident(word)
                if ["const", "async", "unsafe", "extern"].contains(&word.to_string().as_str()))
            })
            .is_some_and(|token| matches!(token, TokenTree::Ident(word) if word == "pub"));
        self.functions.push(Function {
            name,
            line,
            lines: end - line + 1,
            is_public,
            is_fallible,
            in_test: place.in_test,
        });
    }
}

/// Whether the `::` before `at` follows something that the walk has taken as a path's start already.
fn starts_elsewhere(tokens: &[TokenTree], at: usize) -> bool {
    match at.checked_sub(3).map(|before| &tokens[before]) {
        Some(TokenTree::Ident(word)) => {
            !["return", "in", "as", "use", "impl", "dyn"].contains(&word.to_string().as_str())
        }
        Some(TokenTree::Punct(punct)) => punct.as_char() == '>',
        _ => false,
    }
}

fn attribute(tokens: &[TokenTree], at: usize) -> Option<&Group> {
    [at + 1, at + 2].into_iter().find_map(|at| match tokens.get(at) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => Some(group),
        _ => None,
    })
}

/// `cfg(test)`, and `cfg(all(test, …))`, which holds in tests only.
fn is_cfg_test(attribute: &Group) -> bool {
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text.starts_with("cfg(test") || text.starts_with("cfg(all(test,")
}

/// Every `path = "…"` of an attribute, also within `cfg_attr`.
fn path_values(attribute: &Group, values: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => path_values(group, values),
            TokenTree::Literal(literal)
                if is_punct(&tokens, at.wrapping_sub(1), '=') && is_ident(&tokens, at.wrapping_sub(2), "path") =>
            {
                values.push(literal.to_string().trim_matches('"').to_owned());
            }
            _ => {}
        }
    }
}

/// `mod x;` at `at`.
fn declared_name(tokens: &[TokenTree], at: usize) -> Option<String> {
    let is_declared = is_ident(tokens, at, "mod") && is_punct(tokens, at + 2, ';');
    ident_at(tokens, at + 1).filter(|_| is_declared)
}

fn ident_at(tokens: &[TokenTree], at: usize) -> Option<String> {
    match tokens.get(at) {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

fn is_ident(tokens: &[TokenTree], at: usize, text: &str) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Ident(ident)) if ident == text)
}

fn is_punct(tokens: &[TokenTree], at: usize, character: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

fn line_of(token: &TokenTree) -> usize {
    token.span().start().line
}
