// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail series`: what is in a series, and how two differ. Also how arguments name a series.

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use nstrail::{
    kernel::{Series, SeriesError, SeriesInput, SeriesNote, Side, SourceSpec, range_diff},
    outcome::Outcome,
    report::escape::{coloured, one_line},
    run::execute::kernel_failure,
};

use super::{
    args::{PickArgs, SeriesAction},
    build,
    context::Context,
    exit::Ending,
    progress::Progress,
};

/// A line of data. A reader that has seen enough (`| head`) is no error.
macro_rules! say {
    ($($arg:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

pub fn series(context: &Context, action: &SeriesAction) -> Ending {
    let result = match action {
        SeriesAction::Show { series, picks } => show(context, series, picks),
        SeriesAction::Diff { a, b, kernel, source } => diff(context, [a, b], kernel, source),
    };
    result.err().unwrap_or(Ending::Done)
}

/// Whose trouble it is: what was named, or ours.
pub fn failed(error: &SeriesError) -> Ending {
    match error {
        SeriesError::Process(_) => Ending::Failed(Outcome::Error, error.to_string()),
        _ => Ending::Usage(error.to_string()),
    }
}

/// Reads what was named, and takes the patches that were picked.
pub fn read(input: &SeriesInput, picks: &PickArgs) -> Result<Series, Ending> {
    let series = input.read().map_err(|error| failed(&error))?;
    match &picks.cherry_pick {
        Some((_, picks)) => {
            series.pick(picks).map_err(|error| Ending::Usage(format!("--cherry-pick: {error}")))
        }
        None => Ok(series),
    }
}

/// As `--series`; also the folder of the project's series for a kernel version.
pub fn named(context: &Context, text: &Path) -> Result<SeriesInput, Ending> {
    if !text.exists()
        && let Some(version) = text.to_str()
        && let Ok(project) = context.project()
        && project.series(version).is_dir()
    {
        return Ok(SeriesInput::Folder(project.series(version)));
    }
    SeriesInput::parse(text, None).map_err(|error| failed(&error))
}

fn show(context: &Context, text: &Path, picks: &PickArgs) -> Result<(), Ending> {
    let series = read(&named(context, text)?, picks)?;
    let mut progress = Progress::new(context.quiet, context.terminal);
    series.notes.iter().for_each(|note| progress.warning(&format!("series: {note}")));
    drop(progress);
    let title = series.title.as_deref().unwrap_or("no cover letter");
    say!("{}: {}", one_line(&series.name), one_line(title));
    say!("version      {}", series.version);
    if let Some(base) = &series.base {
        say!("base         {}", one_line(base));
    }
    say!("base-commit  {}", series.base_commit.as_deref().unwrap_or("-"));
    say!("key          {}", series.hash);
    let mut total = (0, 0);
    for (number, patch) in (1..).zip(&series.patches) {
        let stat = patch.stat();
        let (added, removed) = stat.total();
        total = (total.0 + added, total.1 + removed);
        let subject = if patch.subject.is_empty() { &patch.name } else { &patch.subject };
        let author = if patch.author.is_empty() { "no author" } else { &patch.author };
        say!("\n{number:>4}  {}\n      {}", one_line(subject), one_line(author));
        for file in &stat.files {
            let path = one_line(&file.path.display().to_string());
            say!("      {:>6} {:>6}  {path}", format!("+{}", file.added), format!("-{}", file.removed));
        }
    }
    let count = series.patches.len();
    let plural = if count == 1 { "" } else { "es" };
    say!("\n{count} patch{plural}, {} insertions, {} deletions", total.0, total.1);
    Ok(())
}

fn diff(
    context: &Context,
    names: [&PathBuf; 2],
    kernels: &[String],
    sources: &[String],
) -> Result<(), Ending> {
    for (flag, given) in [("--kernel", kernels), ("--source", sources)] {
        if given.len() > 2 {
            return Err(Ending::Usage(format!("{flag} is given {} times for two series", given.len())));
        }
    }
    let side = |at: usize| side(context, names[at], of(kernels, at), of(sources, at));
    let (a, b) = (side(0)?, side(1)?);
    let store = build::store(context)?;
    let mut progress = Progress::new(context.quiet, context.terminal);
    for (label, note) in [&a, &b].iter().flat_map(|side| {
        side.series
            .notes
            .iter()
            .filter(|note| !matches!(note, SeriesNote::Symbols(_)))
            .map(|note| (&side.label, note))
    }) {
        progress.warning(&format!("{label}: {note}"));
    }
    let colour =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let mut events = |event| build::show(&mut progress, &event);
    range_diff(&store, [&a, &b], colour, &mut events, |line| say!("{}", coloured(line)))
        .map_err(|error| Ending::Failed(kernel_failure(&error.source).outcome, error.to_string()))
}

/// One value is for both sides.
fn of(given: &[String], at: usize) -> Option<&str> {
    given.get(at).or(given.first()).map(String::as_str)
}

fn side(context: &Context, name: &Path, kernel: Option<&str>, source: Option<&str>) -> Result<Side, Ending> {
    let input = named(context, name)?;
    let series = read(&input, &PickArgs::default())?;
    let source = match (kernel, source, &input, &series.base) {
        (_, Some(source), ..) => {
            SourceSpec::parse(source).map_err(|error| Ending::Usage(format!("--source: {error}")))?
        }
        (Some(kernel), ..) => SourceSpec::Debian(kernel.to_owned()),
        (_, _, SeriesInput::Git { repository, from, .. }, _) => {
            SourceSpec::Git { repository: repository.clone(), revision: from.clone() }
        }
        (_, _, _, Some(base)) => SourceSpec::Debian(base.clone()),
        _ => {
            return Err(Ending::Usage(format!(
                "nothing says which kernel {} is for (hint: --kernel VERSION or --source PATH)",
                name.display()
            )));
        }
    };
    Ok(Side { label: name.display().to_string(), series, source })
}
