// SPDX-License-Identifier: MIT OR Apache-2.0
//! The folder of a run, and the link to the newest.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use thiserror::Error;

/// `out/<run-id>/`.
#[derive(Debug, Clone)]
pub struct RunFolder {
    id: String,
    path: PathBuf,
    out: PathBuf,
}

/// A folder that cannot be made.
#[derive(Debug, Error)]
#[error("cannot make {}: {source} (hint: --out DIR names another place)", path.display())]
pub struct FolderError {
    pub path: PathBuf,
    pub source: io::Error,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FolderError + '_ {
    move |source| FolderError { path: path.to_owned(), source }
}

impl RunFolder {
    /// Makes a new folder under `out`, named by the time and, if two start in the same second, a number.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(out: &Path) -> Result<Self, FolderError> {
        fs::create_dir_all(out).map_err(failed(out))?;
        let stamp = timestamp(SystemTime::now());
        for number in 0.. {
            let id = if number == 0 { stamp.clone() } else { format!("{stamp}-{number}") };
            let path = out.join(&id);
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { id, path, out: out.to_owned() }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(FolderError { path, source }),
            }
        }
        unreachable!("the numbers have no end")
    }

    /// A folder of an earlier run, to go on in.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        // `out/latest` is a link: the run's name is that of what it points to.
        let path = fs::canonicalize(path).map_err(failed(path))?;
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let out = path.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Self { id, path, out })
    }

    /// The run's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new folder below it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make(&self, name: &Path) -> Result<PathBuf, FolderError> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(failed(&path))?;
        Ok(path)
    }

    /// Makes `out/latest` point here, in one step.
    ///
    /// # Errors
    /// If the link cannot be made.
    pub fn link_latest(&self) -> Result<(), FolderError> {
        let latest = self.out.join("latest");
        let temporary = self.out.join(format!(".latest-{}", self.id));
        std::os::unix::fs::symlink(&self.id, &temporary).map_err(failed(&temporary))?;
        fs::rename(&temporary, &latest).map_err(failed(&latest))
    }
}

/// `20261124T093015Z`, by the civil calendar (days since 1970-01-01 to year, month, day).
fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut day) = (1970_u64, days);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if day < length {
            break;
        }
        day -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{:02}T{hour:02}{minute:02}{second:02}Z", day + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_those_of_the_civil_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (1_795_512_615, "20261124T093015Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn two_runs_in_one_second_have_two_folders_and_latest_is_the_second() {
        let out = tempfile::tempdir().unwrap();
        let (first, second) =
            (RunFolder::create(out.path()).unwrap(), RunFolder::create(out.path()).unwrap());
        assert_ne!(first.path(), second.path());
        first.link_latest().unwrap();
        second.link_latest().unwrap();
        assert_eq!(fs::read_link(out.path().join("latest")).unwrap(), Path::new(second.id()));
    }
}
