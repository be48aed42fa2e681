// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is bisected: the candidates of a series, of a line's releases, of a git range, and the kernel that each is.

use std::path::PathBuf;

use crate::{
    kernel::{ApplyError, Commit, DebianVersion, Events, KernelSpec, Series, SeriesError, SourceSpec, Store},
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
        let Some(back) = whole.patches.get(index).and_then(|patch| patch.reversed()) else {
            return Ok(Err(format!(
                "the series does not apply without it ({trouble}), nor can it be taken back"
            )));
        };
        let reverted = self.with(whole.and(back));
        Ok(match applies(&reverted, store, events)? {
            Ok(()) => Ok((reverted, "the whole series, with this patch taken back on top".to_owned())),
            Err(back) => Err(format!(
                "the series does not apply without it ({trouble}), nor can it be taken back on top ({})",
                first_line(&back.to_string())
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
    fn with(&self, patches: Vec<crate::kernel::Patch>) -> Option<Series> {
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
        let patches = Commit::difference(&self.repository, &self.base, last)
            .and_then(|whole| Ok((whole, commit.own(&self.repository)?)));
        let (whole, own) = match patches {
            Ok((whole, Some(own))) => (whole, own),
            Ok((_, None)) => return Ok(Err("it changes no file".to_owned())),
            Err(trouble @ SeriesError::Process(_)) => return Err(error(trouble)),
            Err(trouble) => return Ok(Err(first_line(&trouble.to_string()))),
        };
        let Some(back) = own.reversed() else { return Ok(Err("it cannot be taken back".to_owned())) };
        let source = SourceSpec::Git { repository: self.repository.clone(), revision: self.base.id.clone() };
        let series = self.with(whole.into_iter().chain([back]).collect());
        let reverted = KernelSpec { source, series, ..self.kernel.clone() };
        Ok(match applies(&reverted, store, events)? {
            Ok(()) => Ok((reverted, "the bad end, with this commit taken back on top".to_owned())),
            Err(trouble) => {
                Err(format!("it cannot be taken back on top ({})", first_line(&trouble.to_string())))
            }
        })
    }
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
