// SPDX-License-Identifier: MIT OR Apache-2.0
//! Patches as files: a folder of `NNNN-*.patch` with or without series.toml, or a quilt series.
//!
//! Each file is read as a mail, so that one that a mail program saved in quoted-printable is the
//! same patch as git's own.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::super::digest::KeyHasher;
use super::super::patch::{Patch, PatchError, Strip};
use super::error::{Place, SeriesError};
use super::mail::Mail;
use super::mbox::{Raw, to_lf};
use super::note::SeriesNote;
use super::tag::missing;
use super::{Series, quilt};

#[derive(Debug, Default, Deserialize)]
struct Table {
    name: Option<String>,
    base: Option<String>,
    config: Option<String>,
    cover: Option<String>,
    #[serde(default)]
    checkpatch_ignore: Vec<String>,
    patches: Option<Vec<String>>,
}

/// A folder. series.toml gives the order, then a quilt series file, then the names.
pub fn read(folder: &Path) -> Result<Series, SeriesError> {
    let list = folder.join("series.toml");
    let table = match std::fs::read_to_string(&list) {
        Ok(text) => Some(
            toml::from_str::<Table>(&text)
                .map_err(|error| SeriesError::Toml { path: list.clone(), message: error.to_string() })?,
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(SeriesError::Read { path: list, source }),
    };
    if table.is_none() {
        let found = [folder.join("series"), folder.join("patches/series")];
        if let Some(list) = found.iter().find(|list| list.is_file()) {
            return quilt_series(list);
        }
    }
    let found = numbered(folder)?;
    let table = table.unwrap_or_default();
    let listed = table.patches.is_some();
    let newest = newest(folder, &found, listed)?;
    let names = match table.patches {
        Some(names) => {
            let forgotten = |found: &&Found| found.number != 0 && !names.contains(&found.name);
            if let Some(found) = found.iter().find(forgotten) {
                return Err(SeriesError::Unlisted { list, patch: found.name.clone() });
            }
            names
        }
        None => newest.names,
    };
    if names.is_empty() {
        return Err(SeriesError::NoPatches(folder.to_owned()));
    }
    let mut series = Series::empty(folder);
    series.version = newest.version;
    if let Some(name) = table.name {
        series.name = name;
    }
    (series.config, series.base) = (table.config, table.base);
    series.checkpatch_ignore = table.checkpatch_ignore;
    if !newest.older.is_empty() {
        series.notes.push(SeriesNote::Version { taken: newest.version, older: newest.older });
    }
    if let Some(cover) = table.cover.or(newest.cover) {
        series.take_cover(&mail(&folder.join(cover))?);
    }
    let files: Vec<(String, Strip)> = names.into_iter().map(|name| (name, Strip::One)).collect();
    let counters = add(&mut series, folder, &files)?;
    // Where every file says `n/m` and nobody gave a list, the numbers are a promise.
    if !listed
        && let Some(counters) = counters
        && let Some(&(_, total)) = counters.first()
        && counters.iter().all(|(_, of)| *of == total)
    {
        let mut there: Vec<u32> = counters.iter().map(|(number, _)| *number).collect();
        there.sort_unstable();
        if let Some(missing) = missing(&there, total) {
            return Err(SeriesError::Missing {
                place: Place::of(folder),
                missing,
                total,
                version: series.version,
            });
        }
    }
    series.note_symbols();
    Ok(series)
}

/// A quilt series file, and the patches beside it.
pub fn quilt_series(list: &Path) -> Result<Series, SeriesError> {
    let read_error = |source| SeriesError::Read { path: list.to_owned(), source };
    let text = std::fs::read(list).map_err(read_error)?;
    let listed = quilt::parse(list, &String::from_utf8_lossy(&text))?;
    let folder = list.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    for quilt::Listed { line, name, .. } in &listed {
        if !folder.join(name).is_file() {
            let what = format!("{name} is not there (hint: patches lie beside the series file)");
            return Err(SeriesError::Quilt { path: list.to_owned(), line: *line, what });
        }
    }
    if listed.is_empty() {
        let what = "no patch is listed (hint: one file name a line)".to_owned();
        return Err(SeriesError::Quilt { path: list.to_owned(), line: 1, what });
    }
    let mut series = Series::empty(folder);
    let files: Vec<(String, Strip)> = listed.into_iter().map(|listed| (listed.name, listed.strip)).collect();
    add(&mut series, folder, &files)?;
    series.note_symbols();
    Ok(series)
}

/// Reads the files into the series; gives their `n/m`, if all have one.
fn add(
    series: &mut Series,
    folder: &Path,
    files: &[(String, Strip)],
) -> Result<Option<Vec<(u32, u32)>>, SeriesError> {
    let mut hasher = KeyHasher::new("series");
    let mut counters = Some(Vec::new());
    for (name, strip) in files {
        let path = folder.join(name);
        let bytes =
            std::fs::read(&path).map_err(|source| SeriesError::Read { path: path.clone(), source })?;
        hasher.part("name", name);
        hasher.part("bytes", &bytes);
        let mail = mail_of(&path, bytes)?;
        let mut patch =
            Patch::parse_stripped(name, &mail.text, *strip).map_err(|error| in_folder(folder, error))?;
        if !mail.tag.title.is_empty() {
            patch.subject.clone_from(&mail.tag.title);
        }
        (patch.author, patch.message) = (mail.author.clone(), mail.message.clone());
        match (&mut counters, mail.tag.counter) {
            (Some(counters), Some(counter)) => counters.push(counter),
            _ => counters = None,
        }
        series.trailers(&mail);
        if mail.tag.version > series.version {
            series.version = mail.tag.version;
        }
        series.patches.push(patch);
    }
    series.hash = hasher.finish();
    Ok(counters)
}

/// Errors name the file as the user can open it.
fn in_folder(folder: &Path, mut error: PatchError) -> SeriesError {
    let (PatchError::Empty { patch }
    | PatchError::Leaves { patch, .. }
    | PatchError::Unsupported { patch, .. }
    | PatchError::Malformed { patch, .. }) = &mut error;
    *patch = folder.join(&*patch).display().to_string();
    error.into()
}

fn mail(path: &Path) -> Result<Mail, SeriesError> {
    let bytes = std::fs::read(path).map_err(|source| SeriesError::Read { path: path.to_owned(), source })?;
    mail_of(path, bytes)
}

fn mail_of(path: &Path, mut bytes: Vec<u8>) -> Result<Mail, SeriesError> {
    to_lf(&mut bytes);
    Mail::read(&Raw { number: 1, line: 1, bytes }).map_err(|(message, source)| SeriesError::Mail {
        place: Place::of(path),
        message: Box::new(message),
        source,
    })
}

/// A file that is called `[vV-]NNNN-*.patch`.
struct Found {
    name: String,
    version: u32,
    number: u32,
}

impl Found {
    fn parse(name: &str) -> Option<Found> {
        let stem = name.strip_suffix(".patch")?;
        let (version, rest) = match stem.strip_prefix('v').and_then(|rest| rest.split_once('-')) {
            Some((version, rest)) if !version.is_empty() && version.bytes().all(|c| c.is_ascii_digit()) => {
                (version.parse().ok()?, rest)
            }
            _ => (1, stem),
        };
        let (number, _) = rest.split_once('-')?;
        let digits = number.len() == 4 && number.bytes().all(|c| c.is_ascii_digit());
        digits.then(|| Some(Found { name: name.to_owned(), version, number: number.parse().ok()? }))?
    }
}

fn numbered(folder: &Path) -> Result<Vec<Found>, SeriesError> {
    let entries =
        std::fs::read_dir(folder).map_err(|source| SeriesError::Read { path: folder.to_owned(), source })?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<Found> = names.filter_map(|name| Found::parse(&name)).collect();
    found.sort_by(|a, b| (a.version, a.number, &a.name).cmp(&(b.version, b.number, &b.name)));
    Ok(found)
}

/// The files of the newest version.
#[derive(Default)]
struct Newest {
    version: u32,
    /// Of the others.
    older: Vec<u32>,
    cover: Option<String>,
    /// In their order.
    names: Vec<String>,
}

/// Two files with the same number are an error, unless a list says what is meant.
fn newest(folder: &Path, found: &[Found], listed: bool) -> Result<Newest, SeriesError> {
    let mut older: Vec<u32> = found.iter().map(|found| found.version).collect();
    older.dedup();
    let version = older.pop().unwrap_or(1);
    if listed {
        older.clear();
    }
    let mut names: BTreeMap<u32, String> = BTreeMap::new();
    for patch in found.iter().filter(|found| found.version == version) {
        if let Some(first) = names.insert(patch.number, patch.name.clone())
            && !listed
        {
            let second = patch.name.clone();
            return Err(SeriesError::SameNumber { folder: folder.to_owned(), first, second });
        }
    }
    let cover = names.remove(&0);
    Ok(Newest { version, older, cover, names: names.into_values().collect() })
}
