// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is bisected: the candidates of a series, of a line's releases, of a git range, and the kernel that each is.

use std::path::PathBuf;

use crate::{
    kernel::{
        ApplyError, Commit, DebianVersion, Events, KernelSpec, Patch, Series, SeriesError, SourceSpec, Store,
        revert,
    },
    report::{
        bisect::{CandidateSummary, Mode},
        summary::{Failure, SeriesSummary},
    },
    run::execute::{self, error, kernel_failure},
};

/// See the module. There are at least two candidates, the first of them the good end.
#[derive(Debug, Clone)]
pub enum Subject {
    Series(Box<SeriesSubject>),
    Releases(ReleaseSubject),
    Git(GitSubject),
}

/// Prefixes of a series.
#[derive(Debug, Clone)]
pub struct SeriesSubject {
    /// Without a series.
    pub kernel: KernelSpec,
    /// Applied whole below each prefix.
    pub below: Option<Series>,
    pub series: Series,
    /// How many patches the good end and the bad end have.
    pub good: usize,
    pub bad: usize,
}

/// Point releases of one line.
#[derive(Debug, Clone)]
pub struct ReleaseSubject {
    /// With the series that each of them gets, if any.
    pub kernel: KernelSpec,
    /// Oldest first.
    pub releases: Vec<DebianVersion>,
}

/// Commits.
#[derive(Debug, Clone)]
pub struct GitSubject {
    /// With the series that each of them gets, if any.
    pub kernel: KernelSpec,
    pub repository: PathBuf,
    /// What the tree that all of them share is made from.
    pub base: Commit,
    /// Oldest first.
    pub commits: Vec<Commit>,
}

impl Subject {
    /// What a candidate is.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match self {
            Self::Series(_) => Mode::Series,
            Self::Releases(_) => Mode::Releases,
            Self::Git(_) => Mode::Git,
        }
    }

    /// All candidates, the good end first.
    #[must_use]
    pub fn candidates(&self) -> Vec<CandidateSummary> {
        match self {
            Self::Series(subject) => (subject.good..=subject.bad)
                .map(|count| {
                    let patch = count.checked_sub(1).and_then(|last| subject.series.patches.get(last));
                    let title = patch.map_or("none of the series", |patch| &patch.subject);
                    CandidateSummary { id: count.to_string(), title: title.to_owned() }
                })
                .collect(),
            Self::Releases(ReleaseSubject { releases, .. }) => releases
                .iter()
                .map(|release| CandidateSummary { id: release.to_string(), title: String::new() })
                .collect(),
            Self::Git(GitSubject { commits, .. }) => commits
                .iter()
                .map(|commit| CandidateSummary {
                    id: commit.short().to_owned(),
                    title: commit.subject.clone(),
                })
                .collect(),
        }
    }

    /// What every candidate has besides.
    #[must_use]
    pub fn with(&self) -> Option<SeriesSummary> {
        match self {
            Self::Series(subject) => {
                let below = subject.below.clone();
                execute::series_summary(&KernelSpec { series: below, ..subject.kernel.clone() })
            }
            Self::Releases(ReleaseSubject { kernel, .. }) | Self::Git(GitSubject { kernel, .. }) => {
                execute::series_summary(kernel)
            }
        }
    }

    /// What a resumed bisection must have in common with the one that it goes on with.
    #[must_use]
    pub fn plan(&self) -> Vec<String> {
        let (kernel, own) = match self {
            Self::Series(subject) => {
                let SeriesSubject { kernel, below, series, .. } = subject.as_ref();
                let below = below.as_ref().map_or_else(String::new, |below| format!(" on {}", below.hash));
                (kernel, format!("series {}{below}", series.hash))
            }
            Self::Releases(ReleaseSubject { kernel, .. }) => (kernel, "releases".to_owned()),
            Self::Git(GitSubject { kernel, base, .. }) => (kernel, format!("commits from {}", base.id)),
        };
        let with = kernel.series.as_ref().map_or_else(String::new, |with| format!(" with {}", with.hash));
        let mut plan = vec![
            format!("{own}{with}, source {:?}, fuzz {}", kernel.source, kernel.fuzz),
            format!("flavours {:?}, make {:?}", kernel.flavours, kernel.make),
        ];
        plan.extend(self.candidates().into_iter().map(|candidate| format!("candidate {}", candidate.id)));
        plan
    }

    /// The kernel of a candidate.
    ///
    /// # Errors
    /// git fails.
    pub fn kernel(&self, at: usize) -> Result<KernelSpec, Failure> {
        match self {
            Self::Series(subject) => Ok(subject.with(subject.series.prefix(subject.good + at))),
            Self::Releases(ReleaseSubject { kernel, releases }) => {
                let release = releases.get(at).map(ToString::to_string).unwrap_or_default();
                Ok(KernelSpec { source: SourceSpec::Debian(release), ..kernel.clone() })
            }
            Self::Git(subject) => subject.kernel(at).map_err(error),
        }
    }

    /// The bad end without what a candidate adds to the one before it, and in words how that was done; or why it cannot be.
    ///
    /// # Errors
    /// No source, git fails.
    pub fn without(
        &self,
        culprit: usize,
        store: &Store,
        events: Events<'_>,
    ) -> Result<Result<(KernelSpec, String), String>, Failure> {
        match self {
            Self::Series(subject) => subject.without(culprit, store, events),
            // No caller asks for it.
            Self::Releases(_) => Ok(Err("a release cannot be taken out".to_owned())),
            Self::Git(subject) => subject.without(culprit, store, events),
        }
    }
}

impl SeriesSubject {
    /// The kernel with some patches on top of what lies below.
    fn with(&self, series: Series) -> KernelSpec {
        let series = match &self.below {
            Some(below) => Some(series.on(below)),
            None if series.patches.is_empty() => None,
            None => Some(series),
        };
        KernelSpec { series, ..self.kernel.clone() }
    }

    /// The whole series must apply, or no prefix is worth a build.
    ///
    /// # Errors
    /// The hunk that does not apply; no source.
    pub fn check(&self, store: &Store, events: Events<'_>) -> Result<(), Failure> {
        let whole = self.with(self.series.prefix(self.bad));
        applies(&whole, store, events)?.map_err(|trouble| kernel_failure(&trouble.into()))
    }

    fn without(
        &self,
        culprit: usize,
        store: &Store,
        events: Events<'_>,
    ) -> Result<Result<(KernelSpec, String), String>, Failure> {
        let index = (self.good + culprit).saturating_sub(1);
        let whole = self.series.prefix(self.bad);
        let rest = self.with(whole.without(index));
        let trouble = match applies(&rest, store, events)? {
            Ok(()) => return Ok(Ok((rest, "the series without this patch".to_owned()))),
            Err(trouble) => first_line(&trouble.to_string()),
        };
        let name = self.series.patches.get(index).map_or("", |patch| &patch.name);
        let kernel = |count| self.with(self.series.prefix(count)).series;
        let (before, with, all) = (kernel(index), kernel(index + 1), kernel(self.bad));
        let back = taken_back(name, &self.kernel, [&before, &with, &all], store, events)?;
        Ok(match back {
            Ok(back) => {
                let how = "the whole series, with this patch taken back by a three-way merge";
                Ok((self.with(whole.and(back)), how.to_owned()))
            }
            Err(why) => Err(format!(
                "the series does not apply without it ({trouble}), nor can it be taken back ({why})"
            )),
        })
    }
}

impl GitSubject {
    /// The commits' full ids.
    #[must_use]
    pub fn ids(&self) -> Vec<&str> {
        self.commits.iter().map(|commit| commit.id.as_str()).collect()
    }

    /// The files of a commit as one patch on top of the base, so that all share a tree and a build folder; or from a
    /// tree of its own, where no patch can say what differs.
    fn kernel(&self, at: usize) -> Result<KernelSpec, SeriesError> {
        let Some(commit) = self.commits.get(at) else { return Ok(self.kernel.clone()) };
        let source = |revision: &Commit| SourceSpec::Git {
            repository: self.repository.clone(),
            revision: revision.id.clone(),
        };
        match Commit::difference(&self.repository, &self.base, commit) {
            Ok(patch) => {
                let series = self.with(patch.into_iter().collect());
                Ok(KernelSpec { source: source(&self.base), series, ..self.kernel.clone() })
            }
            Err(SeriesError::Patch(_)) => Ok(KernelSpec { source: source(commit), ..self.kernel.clone() }),
            Err(trouble) => Err(trouble),
        }
    }

    /// The series that candidates get, on top of these patches.
    fn with(&self, patches: Vec<Patch>) -> Option<Series> {
        let below = Series::of("commits", patches);
        match &self.kernel.series {
            Some(series) => Some(series.on(&below)),
            None if below.patches.is_empty() => None,
            None => Some(below),
        }
    }

    fn without(
        &self,
        culprit: usize,
        store: &Store,
        events: Events<'_>,
    ) -> Result<Result<(KernelSpec, String), String>, Failure> {
        let (Some(commit), Some(last)) = (self.commits.get(culprit), self.commits.last()) else {
            return Ok(Err("there is no such commit".to_owned()));
        };
        let of = |commit: &Commit| -> Result<_, SeriesError> {
            let patch = Commit::difference(&self.repository, &self.base, commit)?;
            Ok(Some(Series::of("commits", patch.into_iter().collect())))
        };
        let three =
            commit.parent(&self.repository).and_then(|parent| Ok([of(&parent)?, of(commit)?, of(last)?]));
        let [before, with, whole] = match three {
            Ok(three) => three,
            Err(trouble @ SeriesError::Process(_)) => return Err(error(trouble)),
            Err(trouble) => return Ok(Err(first_line(&trouble.to_string()))),
        };
        let source = SourceSpec::Git { repository: self.repository.clone(), revision: self.base.id.clone() };
        let kernel = KernelSpec { source, ..self.kernel.clone() };
        let back = taken_back(commit.short(), &kernel, [&before, &with, &whole], store, events)?;
        Ok(back.map(|back| {
            let patches = whole.into_iter().flat_map(|whole| whole.patches).chain([back]).collect();
            let how = "the bad end, with this commit taken back by a three-way merge";
            (KernelSpec { series: self.with(patches), ..kernel }, how.to_owned())
        }))
    }
}

/// The patch that takes back what the second of three has and the first has not, on top of the third; or why not.
fn taken_back(
    name: &str,
    kernel: &KernelSpec,
    [before, with, whole]: [&Option<Series>; 3],
    store: &Store,
    events: Events<'_>,
) -> Result<Result<Patch, String>, Failure> {
    let source = store.source(&kernel.source, kernel.refresh, events);
    let source = source.map_err(|trouble| kernel_failure(&trouble.into()))?;
    let back = revert(name, &source.tree, before.as_ref(), with.as_ref(), whole.as_ref(), kernel.fuzz);
    back.map_err(|trouble| kernel_failure(&trouble))
}

/// Whether the patches of a kernel apply. Quick: nothing is written.
fn applies(spec: &KernelSpec, store: &Store, events: Events<'_>) -> Result<Result<(), ApplyError>, Failure> {
    let source = store
        .source(&spec.source, spec.refresh, events)
        .map_err(|trouble| kernel_failure(&trouble.into()))?;
    let Some(series) = &spec.series else { return Ok(Ok(())) };
    match series.apply_fuzzy(&source.tree, spec.fuzz, &mut |_| {}) {
        Ok(_) => Ok(Ok(())),
        Err(trouble @ ApplyError::Rejected(_)) => Ok(Err(trouble)),
        Err(trouble) => Err(kernel_failure(&trouble.into())),
    }
}

/// What a message says before it goes into the details.
pub(super) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
