//! Extended attributes of files and folders, read from an open handle.

use crate::manifest::Attributes;

/// What was read, and how many attributes of users were left out: too many, too long, or with a name that is no text.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) attributes: Attributes,
    pub(super) left_out: u64,
}

#[cfg(target_os = "linux")]
pub(super) use linux::read;

/// Elsewhere they have other names and other rules, and are not sent.
#[cfg(not(target_os = "linux"))]
pub(super) fn read(_handle: std::os::fd::BorrowedFd<'_>) -> std::io::Result<Found> {
    Ok(Found::default())
}

#[cfg(target_os = "linux")]
mod linux {
    use super::Found;
    use crate::limits::{ATTRIBUTES_BYTES_MAX, ATTRIBUTES_MAX};
    use crate::manifest::{ATTRIBUTE_PREFIX, Attribute, Attributes, is_good_name};
    use rustix::fs::{fgetxattr, flistxattr};
    use rustix::io::Errno;
    use std::io;
    use std::os::fd::BorrowedFd;

    /// Longest list of names that Linux gives.
    const NAMES_BYTES: usize = 64 * 1024;

    pub(in crate::source) fn read(handle: BorrowedFd<'_>) -> io::Result<Found> {
        let mut names = vec![0; NAMES_BYTES];
        let length = match flistxattr(handle, &mut names[..]) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Found::default()),
            result => result?,
        };
        names.truncate(length);
        let mut of_users: Vec<&[u8]> = names.split(|&byte| byte == 0).filter(|name| is_of_a_user(name)).collect();
        // The same ones are left out every time.
        of_users.sort_unstable();
        let mut value = vec![0; if of_users.is_empty() { 0 } else { ATTRIBUTES_BYTES_MAX }];
        let (mut list, mut left_out, mut bytes) = (Vec::new(), 0, 0);
        for name in of_users {
            let good = str::from_utf8(name).ok().filter(|name| is_good_name(name) && list.len() < ATTRIBUTES_MAX);
            let Some(name) = good else {
                left_out += 1;
                continue;
            };
            let length = match fgetxattr(handle, name, &mut value[..]) {
                Ok(length) => length,
                // Removed since it was named.
                Err(Errno::NODATA) => continue,
                Err(Errno::RANGE | Errno::TOOBIG) => {
                    left_out += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if bytes + name.len() + length > ATTRIBUTES_BYTES_MAX {
                left_out += 1;
                continue;
            }
            bytes += name.len() + length;
            list.push(Attribute { name: name.into(), value: value[..length].into() });
        }
        Ok(Found { attributes: Attributes::of(list).map_err(io::Error::other)?, left_out })
    }

    fn is_of_a_user(name: &[u8]) -> bool {
        name.strip_prefix(ATTRIBUTE_PREFIX.as_bytes()).is_some_and(|rest| !rest.is_empty())
    }
}
