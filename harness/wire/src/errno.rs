// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errno names, as scenarios expect them and messages show them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! errnos {
    ($($name:ident = $number:literal),* $(,)?) => {
        /// An errno that clone, unshare, setns or exec can give.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Errno { $(#[doc = stringify!($name)] $name),* }

        impl Errno {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its number (the same on every architecture that the harness knows).
            #[must_use]
            pub const fn number(self) -> i32 {
                match self { $(Self::$name => $number),* }
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

errnos! {
    EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, EIO = 5, E2BIG = 7, ENOEXEC = 8, EBADF = 9, ECHILD = 10, EAGAIN = 11,
    ENOMEM = 12, EACCES = 13, EFAULT = 14, EBUSY = 16, EEXIST = 17, ENOTDIR = 20, EINVAL = 22, ENFILE = 23,
    EMFILE = 24, ENOSPC = 28, EPIPE = 32, ENOSYS = 38, EUSERS = 87, EOPNOTSUPP = 95, ECONNREFUSED = 111,
}

impl Errno {
    /// The errno with this number.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|errno| errno.number() == number)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of an errno, or its number if it has none here.
#[must_use]
pub fn errno_name(number: i32) -> String {
    Errno::from_number(number).map_or_else(|| format!("errno {number}"), |errno| errno.name().to_owned())
}
