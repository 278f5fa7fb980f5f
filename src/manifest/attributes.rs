//! Extended attributes of a file or folder: a short list, in one form.

use crate::limits::{ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTES_BYTES_MAX, ATTRIBUTES_MAX};
use std::sync::Arc;

/// What every name starts with. Other namespaces grant rights or belong to the system: they never travel.
pub const ATTRIBUTE_PREFIX: &str = "user.";

/// The extended attributes of one entry, in rising order of their names. Cheap to clone.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
// Behind one thin pointer: a listing has a million entries, most of them without any.
pub struct Attributes(Option<Arc<Vec<Attribute>>>);

/// One extended attribute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attribute {
    /// Its name, with [`ATTRIBUTE_PREFIX`].
    pub name: Box<str>,
    /// Its value, any bytes.
    pub value: Box<[u8]>,
}

/// The rule that a list of attributes breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AttributesFault {
    /// A name is not one of a user's attribute, or longer than 255 bytes.
    #[error("the name of an extended attribute is none that is sent")]
    Name,
    /// Names are not in strictly rising order.
    #[error("extended attributes are out of order")]
    Order,
    /// Names and values are longer together than they may be.
    #[error("extended attributes take more than {ATTRIBUTES_BYTES_MAX} bytes")]
    TooLong,
    /// There are more than an entry may have.
    #[error("there are more than {ATTRIBUTES_MAX} extended attributes")]
    TooMany,
}

impl Attribute {
    /// Bytes of name and value.
    pub fn bytes(&self) -> usize {
        self.name.len() + self.value.len()
    }
}

impl Attributes {
    /// No attributes.
    pub const NONE: Self = Self(None);

    /// Checks a list.
    pub fn of(list: Vec<Attribute>) -> Result<Self, AttributesFault> {
        if list.len() > ATTRIBUTES_MAX {
            return Err(AttributesFault::TooMany);
        }
        if list.iter().map(Attribute::bytes).sum::<usize>() > ATTRIBUTES_BYTES_MAX {
            return Err(AttributesFault::TooLong);
        }
        if !list.iter().all(|attribute| is_good_name(&attribute.name)) {
            return Err(AttributesFault::Name);
        }
        if !list.is_sorted_by(|one, next| one.name < next.name) {
            return Err(AttributesFault::Order);
        }
        Ok(if list.is_empty() { Self::NONE } else { Self(Some(Arc::new(list))) })
    }

    /// All of them, in rising order of their names.
    pub fn list(&self) -> &[Attribute] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// Whether an attribute of this name may be sent.
pub fn is_good_name(name: &str) -> bool {
    let rest = name.strip_prefix(ATTRIBUTE_PREFIX);
    name.len() <= ATTRIBUTE_NAME_BYTES_MAX && rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, bytes: usize) -> Attribute {
        Attribute { name: name.into(), value: vec![7; bytes].into() }
    }

    #[test]
    fn only_attributes_of_users_are_taken() {
        for name in ["user.a", "user.\u{e9}", "user.a b", "user.security.x"] {
            assert!(Attributes::of(vec![attribute(name, 3)]).is_ok(), "{name}");
        }
        let long = format!("user.{}", "n".repeat(251));
        for name in [
            "",
            "user",
            "user.",
            "security.selinux",
            "trusted.x",
            "system.posix_acl_access",
            "USER.x",
            "user.a\0b",
            &long,
        ] {
            assert_eq!(Attributes::of(vec![attribute(name, 3)]), Err(AttributesFault::Name), "{name}");
        }
        assert!(Attributes::of(vec![attribute(&long[..255], 3)]).is_ok());
    }

    #[test]
    fn a_list_has_one_form_and_bounds() {
        let list = |names: &[&str]| Attributes::of(names.iter().map(|name| attribute(name, 1)).collect());
        assert_eq!(list(&["user.a", "user.b"]).unwrap().list().len(), 2);
        assert_eq!(list(&["user.b", "user.a"]), Err(AttributesFault::Order));
        assert_eq!(list(&["user.a", "user.a"]), Err(AttributesFault::Order));
        assert_eq!(list(&[]), Ok(Attributes::NONE));
        let many = |count| (0..count).map(|number| attribute(&format!("user.{number:03}"), 1)).collect();
        assert!(Attributes::of(many(ATTRIBUTES_MAX)).is_ok());
        assert_eq!(Attributes::of(many(ATTRIBUTES_MAX + 1)), Err(AttributesFault::TooMany));
        assert!(Attributes::of(vec![attribute("user.a", ATTRIBUTES_BYTES_MAX - 6)]).is_ok());
        assert_eq!(Attributes::of(vec![attribute("user.a", ATTRIBUTES_BYTES_MAX - 5)]), Err(AttributesFault::TooLong));
    }
}
