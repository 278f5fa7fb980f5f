//! A terminal's screen as a camera sees it: text with colour codes becomes grey pixels, which a QR reader decodes.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses the part that it needs")]

/// Pixels of a character cell, as high as two of its widths.
const CELL: (usize, usize) = (4, 8);
const BLACK: u8 = 0;
const BRIGHT_WHITE: u8 = 255;

/// The colours of text that has none of its own, as greys.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    pub text: u8,
    pub background: u8,
}

pub const DARK: Theme = Theme { text: 220, background: 20 };
pub const LIGHT: Theme = Theme { text: 30, background: 250 };

/// A grey picture, row by row.
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<u8>,
}

/// What one cell shows.
#[derive(Clone, Copy)]
struct Cell {
    shape: char,
    text: u8,
    background: u8,
}

/// The last `rows` rows that a terminal of that size and theme shows of `text`, in which nothing wraps.
pub fn photograph(text: &str, (columns, rows): (usize, usize), theme: Theme) -> Picture {
    let lines: Vec<Vec<Cell>> = cells(text, theme);
    let first = lines.len().saturating_sub(rows);
    let (width, height) = (columns * CELL.0, rows * CELL.1);
    let mut pixels = vec![theme.background; width * height];
    for (row, line) in lines[first..].iter().enumerate() {
        assert!(line.len() <= columns, "a line of {} columns wraps", line.len());
        for (column, cell) in line.iter().enumerate() {
            for y in 0..CELL.1 {
                let is_text = match cell.shape {
                    '\u{2580}' => y < CELL.1 / 2,
                    '\u{2584}' => y >= CELL.1 / 2,
                    '\u{2588}' => true,
                    ' ' => false,
                    // Some ink, as letters have.
                    _ => y % 3 == 1,
                };
                let start = (row * CELL.1 + y) * width + column * CELL.0;
                pixels[start..start + CELL.0].fill(if is_text { cell.text } else { cell.background });
            }
        }
    }
    Picture { width, height, pixels }
}

impl Picture {
    /// Every QR code that a reader finds in it.
    pub fn read(&self) -> Vec<String> {
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(self.width, self.height, |x, y| {
            self.pixels[y * self.width + x]
        });
        image.detect_grids().iter().map(|grid| grid.decode().unwrap().1).collect()
    }
}

/// Lines of cells; a line feed goes to the start of the next line.
fn cells(text: &str, theme: Theme) -> Vec<Vec<Cell>> {
    let plain = Cell { shape: ' ', text: theme.text, background: theme.background };
    let (mut lines, mut style) = (vec![Vec::new()], plain);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\n' => lines.push(Vec::new()),
            '\r' => {}
            '\u{1b}' => {
                assert_eq!(characters.next(), Some('['));
                let code: String = characters.by_ref().take_while(|&character| character != 'm').collect();
                for number in code.split(';') {
                    match number {
                        "" | "0" => style = plain,
                        "1" | "2" | "31" | "32" | "33" => {}
                        "30" => style.text = BLACK,
                        "39" => style.text = theme.text,
                        "40" => style.background = BLACK,
                        "49" => style.background = theme.background,
                        "107" => style.background = BRIGHT_WHITE,
                        other => panic!("the screen does not know the colour code {other}"),
                    }
                }
            }
            shape => lines.last_mut().unwrap().push(Cell { shape, ..style }),
        }
    }
    // What follows the last line feed is the line that the cursor is on, or nothing yet.
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}
