// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole stage: source, series, private tree, configuration, make, image.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::apply::{ApplyError, Overlay, RejectedHunk};
use super::config::{ConfigError, configure};
use super::decode::BuildPlace;
use super::digest::{Hash, KeyHasher};
use super::event::{BuildEvent, Events};
use super::fragment::{BASE, Fragment, FragmentError, Fragments};
use super::image::{BuildTimes, Built, ImageKey, KernelImage, SCHEMA};
use super::kconfig::Blame;
use super::make::{ErrorWatch, FirstError, Make, MakeVariable, Toolchain, ccache, objcopy, step};
use super::series::{AppliedPatch, BaseCheck, Series, SeriesError};
use super::source::{Source, SourceError, SourceSpec};
use super::store::{Store, StoreError, io_error, remove_tree, write_whole};
use super::tree::{Tree, TreeLabel, build_folder};
use super::versions::KernelLine;
use crate::process::{ChildSpec, NoSandbox, ProcessError, Sandbox, SandboxMode};

/// What to build. The spec before the thing.
#[derive(Debug, Clone)]
pub struct KernelSpec {
    /// Which source.
    pub source: SourceSpec,
    /// Whether to look for a newer point release first.
    pub refresh: bool,
    /// Patches on top of it.
    pub series: Option<Series>,
    /// Lines of context at the ends of a hunk that need not stand there.
    pub fuzz: usize,
    /// Where fragments are looked up.
    pub fragments: Fragments,
    /// The series' Kconfig symbol: on, or explicitly off.
    pub symbol: SeriesSymbol,
    /// Flavours on top of [`BASE`] and the series' own.
    pub flavours: Vec<String>,
    /// Passed through to make.
    pub make: Vec<MakeVariable>,
    /// For make's `-j`; 0 for as many as there are CPUs.
    pub jobs: usize,
    /// Whether whatever else runs goes before it.
    pub background: bool,
    /// How long make may take.
    pub limit: Duration,
    /// Whether what runs of the tree is confined.
    pub sandbox: SandboxMode,
}

/// What becomes of the Kconfig symbol that switches on what a series adds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SeriesSymbol {
    /// With all that the series' own fragment asks for.
    #[default]
    On,
    /// The series is applied, and compiled out.
    Off,
}

impl KernelSpec {
    /// A source as it comes, with the flavours that every kernel of ours has.
    #[must_use]
    pub fn new(source: SourceSpec) -> KernelSpec {
        KernelSpec {
            source,
            refresh: false,
            series: None,
            fuzz: 0,
            fragments: Fragments::Embedded,
            symbol: SeriesSymbol::On,
            flavours: Vec::new(),
            make: Vec::new(),
            jobs: 0,
            background: false,
            limit: Duration::from_secs(2 * 3600),
            sandbox: SandboxMode::Auto,
        }
    }
}

/// A private tree at source plus series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchedTree {
    /// The source.
    pub source: Source,
    /// The tree. It is nstrail's own: the next build may change it.
    pub src: PathBuf,
    /// The patches, with offsets if they had any.
    pub patches: Vec<AppliedPatch>,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The series cannot be read.
    #[error(transparent)]
    Series(#[from] SeriesError),
    /// A patch does not apply.
    #[error(transparent)]
    Rejected(#[from] Box<RejectedHunk>),
    /// A fragment cannot be read.
    #[error(transparent)]
    Fragment(#[from] FragmentError),
    /// The configuration lacks something.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// make failed.
    #[error("the build failed{}: {source}", because(first))]
    Build {
        /// The first error in make's output.
        first: Option<Box<FirstError>>,
        /// The whole output.
        log: PathBuf,
        /// What ran, and its last lines.
        source: ProcessError,
    },
    /// make had nothing to say, and made nothing.
    #[error("the build left no {} (hint: {} has make's output)", missing.display(), log.display())]
    NoImage {
        /// What should be there.
        missing: PathBuf,
        /// The whole output.
        log: PathBuf,
    },
    /// The build left something else than a file of its own, where we would have read one.
    #[error(
        "the build left a link or a folder for {}, or it leads out of the build folder (hint: does the series mean harm? {} has make's output)",
        path.display(), log.display()
    )]
    NotOfTheBuild {
        /// What should be a file.
        path: PathBuf,
        /// The whole output.
        log: PathBuf,
    },
    /// A sandbox was demanded.
    #[error(transparent)]
    Sandbox(#[from] NoSandbox),
    /// A tool could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file of the cache.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ApplyError> for KernelError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Rejected(rejected) => KernelError::Rejected(rejected),
            ApplyError::Store(error) => KernelError::Store(error),
        }
    }
}

impl KernelError {
    /// Whether there is no image only because nothing defines this Kconfig symbol: a later patch of the series does.
    #[must_use]
    pub fn lacks_symbol(&self, symbol: &str) -> bool {
        let KernelError::Config(ConfigError::Missing(missing)) = self else { return false };
        missing.iter().all(|missing| missing.blame == Blame::Undefined)
            && missing.iter().any(|missing| missing.symbol == symbol)
    }

    /// Whether it is only that somebody asked us to stop.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        use super::{apt::AptError, lock::LockError, unpack::UnpackError};
        let process = match self {
            KernelError::Build { source, .. } | KernelError::Config(ConfigError::Failed { source, .. }) => {
                source
            }
            KernelError::Process(error)
            | KernelError::Source(
                SourceError::Process(error)
                | SourceError::Apt(AptError::Process(error))
                | SourceError::Unpack(UnpackError::Process(error)),
            ) => error,
            KernelError::Store(StoreError::Lock(LockError::Interrupted { .. }))
            | KernelError::Source(SourceError::Store(StoreError::Lock(LockError::Interrupted { .. }))) => {
                return true;
            }
            _ => return false,
        };
        matches!(process, ProcessError::Interrupted { .. })
    }
}

/// What confines the build, by what was asked for and what works.
pub(super) fn sandbox(mode: SandboxMode, events: Events<'_>) -> Result<Option<Sandbox>, KernelError> {
    match (mode, Sandbox::find()) {
        (SandboxMode::Off, _) => Ok(None),
        (SandboxMode::On, Err(none)) => Err(none.into()),
        (SandboxMode::Auto, Err(none)) => {
            events(BuildEvent::Unconfined(none));
            Ok(None)
        }
        (SandboxMode::On | SandboxMode::Auto, Ok(sandbox)) => {
            events(BuildEvent::Confined(sandbox));
            Ok(Some(sandbox))
        }
    }
}

fn because(first: &Option<Box<FirstError>>) -> String {
    first.as_ref().map(|first| format!(" at {first}")).unwrap_or_default()
}

/// Applies a series to a private tree.
///
/// # Errors
/// [`KernelError::Rejected`], or as [`build`].
pub fn apply(store: &Store, spec: &KernelSpec, events: Events<'_>) -> Result<PatchedTree, KernelError> {
    let source = store.source(&spec.source, spec.refresh, events)?;
    let (overlay, patches) = overlay(&source, spec, events)?;
    let mut tree = Tree::open(store, &source, label(spec), events)?;
    tree.sync(store, &source, &overlay, events)?;
    Ok(PatchedTree { src: tree.src(), source, patches })
}

/// The image for a spec: from the store, or built.
///
/// # Errors
/// As [`KernelError`].
pub fn build(store: &Store, spec: &KernelSpec, events: Events<'_>) -> Result<KernelImage, KernelError> {
    let mut times = BuildTimes::default();
    let start = Instant::now();
    let source = store.source(&spec.source, spec.refresh, events)?;
    times.source = start.elapsed();

    let start = Instant::now();
    let plan = Plan::of(spec, source, events)?;
    let hit = |image: KernelImage, times, events: Events<'_>| {
        events(BuildEvent::Cached { key: plan.key.to_string() });
        let place = Some(plan.place(store));
        KernelImage { patches: plan.patches.clone(), times, slowdown: plan.slowdown(), place, ..image }
    };
    if let Some(image) = store.image(&plan.key, events)? {
        times.apply = start.elapsed();
        return Ok(hit(image, times, events));
    }
    let mut tree = Tree::open(store, &plan.source, plan.label, events)?;
    // Whoever held the tree may have built the very same.
    if let Some(image) = store.image(&plan.key, events)? {
        times.apply = start.elapsed();
        return Ok(hit(image, times, events));
    }
    tree.sync(store, &plan.source, &plan.overlay, events)?;
    times.apply = start.elapsed();

    let image = Job { store, spec, plan: &plan }.run(&mut tree, &mut times, events)?;
    let place = Some(plan.place(store));
    Ok(KernelImage { slowdown: plan.slowdown(), patches: plan.patches, times, place, ..image })
}

/// What a spec comes to, with nothing built yet.
pub(super) struct Plan<'a> {
    spec: &'a KernelSpec,
    pub source: Source,
    pub label: TreeLabel,
    pub overlay: Overlay,
    patches: Vec<AppliedPatch>,
    fragments: Vec<Fragment>,
    toolchain: Toolchain,
    pub key: ImageKey,
}

impl<'a> Plan<'a> {
    pub fn new(store: &Store, spec: &'a KernelSpec, events: Events<'_>) -> Result<Self, KernelError> {
        let source = store.source(&spec.source, spec.refresh, events)?;
        Self::of(spec, source, events)
    }

    fn of(spec: &'a KernelSpec, source: Source, events: Events<'_>) -> Result<Self, KernelError> {
        let (overlay, patches) = overlay(&source, spec, events)?;
        let fragments = fragments(spec, &source)?;
        let toolchain = Toolchain::probe(&spec.make)?;
        let key = image_key(&source, &overlay, &fragments, &toolchain, &spec.make);
        Ok(Self { spec, label: label(spec), source, overlay, patches, fragments, toolchain, key })
    }

    /// Debug options slow each other down: the product of all.
    fn slowdown(&self) -> u32 {
        self.fragments.iter().map(|fragment| fragment.slowdown).product()
    }

    /// Where it is built, or was.
    fn place(&self, store: &Store) -> BuildPlace {
        let src = Tree::src_of(store, &self.source, self.label);
        BuildPlace {
            lock: Tree::lock_name(&self.source, self.label),
            folder: src.join(self.build_folder()),
            src,
        }
    }

    pub fn build_folder(&self) -> String {
        let flavours: Vec<String> = self.fragments.iter().map(|fragment| fragment.name.clone()).collect();
        build_folder(&flavours, &self.spec.make)
    }

    pub fn configure(&self, make: &Make<'_>, log: &Path) -> Result<(), ConfigError> {
        configure(make, &self.fragments, &self.config_inputs(), log)
    }

    /// As the image's key, but of the patched files only those that Kconfig, or a script that it runs, may read.
    fn config_inputs(&self) -> Hash {
        let ends = ["c", "h", "S", "rst"];
        let mut read = self.overlay.clone();
        read.retain(|path| {
            let code = path.extension().is_some_and(|end| ends.iter().any(|code| end == *code));
            !code || path.starts_with("scripts")
        });
        image_key(&self.source, &read, &self.fragments, &self.toolchain, &self.spec.make).0
    }
}

fn overlay(
    source: &Source,
    spec: &KernelSpec,
    events: Events<'_>,
) -> Result<(Overlay, Vec<AppliedPatch>), KernelError> {
    let Some(series) = &spec.series else { return Ok((Overlay::new(&source.tree), Vec::new())) };
    series.notes.iter().for_each(|note| events(BuildEvent::Note(note.clone())));
    if let Some(check) = BaseCheck::of(series, source)? {
        events(BuildEvent::Base(check));
    }
    Ok(series.apply_fuzzy(&source.tree, spec.fuzz, events)?)
}

fn label(spec: &KernelSpec) -> TreeLabel {
    if spec.series.is_some() { TreeLabel::Patched } else { TreeLabel::Baseline }
}

/// The base flavours, those of the kernel line, the series' own, then those that were asked for.
fn fragments(spec: &KernelSpec, source: &Source) -> Result<Vec<Fragment>, KernelError> {
    let mut fragments = spec.fragments.read(&BASE)?;
    if let Some(line) = KernelLine::of(&source.version) {
        fragments.extend(spec.fragments.read(&line.fragments)?);
    }
    if let (Some(series), SeriesSymbol::Off) = (&spec.series, spec.symbol) {
        if let Some(symbol) = &series.config {
            let path = series.folder.join("series.toml");
            let text = format!("# CONFIG_{symbol} is not set\n");
            fragments.push(Fragment::parse(&format!("{}_off", series.name), path, &text)?);
        }
    } else if let Some(Series { name, folder, config: Some(symbol), .. }) = &spec.series {
        let own = if spec.fragments.has(name) { spec.fragments.read(&[name])? } else { Vec::new() };
        // A mailbox may be called base.mbox: what does not ask for the symbol has nothing to do with the series.
        if own.iter().flat_map(|fragment| &fragment.requests).any(|request| request.symbol == *symbol) {
            fragments.extend(own);
        } else {
            let path = folder.join("series.toml");
            fragments.push(Fragment::parse(name, path, &format!("CONFIG_{symbol}=y\n"))?);
        }
    }
    fragments.extend(spec.fragments.read(&spec.flavours)?);
    Ok(fragments)
}

/// Everything that decides over the bytes of an image. The final `.config` is not in it: it follows from these.
fn image_key(
    source: &Source,
    overlay: &Overlay,
    fragments: &[Fragment],
    toolchain: &Toolchain,
    make: &[MakeVariable],
) -> ImageKey {
    let mut hasher = KeyHasher::new("image");
    hasher.part("schema", SCHEMA.to_string());
    hasher.part("source", source.key.as_str());
    hasher.part("overlay", overlay.hash().as_str());
    for fragment in fragments {
        hasher.part("fragment", &fragment.text);
    }
    toolchain.key(&mut hasher);
    for (name, value) in make {
        hasher.part("variable", name);
        hasher.part("value", value);
    }
    ImageKey(hasher.finish())
}

struct Job<'a> {
    store: &'a Store,
    spec: &'a KernelSpec,
    plan: &'a Plan<'a>,
}

impl Job<'_> {
    fn run(
        self,
        tree: &mut Tree,
        times: &mut BuildTimes,
        events: Events<'_>,
    ) -> Result<KernelImage, KernelError> {
        let o = self.plan.build_folder();
        let src = tree.src();
        let folder = src.join(&o);
        let log = self.store.path("logs").join(format!("build-{}.log", self.plan.key));
        write_whole(&log, b"")?;
        let ccache = ccache(self.store)?;
        let make = Make {
            src: &src,
            o: &o,
            variables: &self.spec.make,
            ccache: ccache.as_deref(),
            background: self.spec.background,
            sandbox: sandbox(self.spec.sandbox, events)?,
        };

        let start = Instant::now();
        let full = !folder.exists();
        tree.begin(&o, events)?;
        events(BuildEvent::Configuring);
        let configured = self.plan.configure(&make, &log);
        if let Err(error) = configured {
            // Only a process that was killed leaves something half written.
            if !matches!(&error, ConfigError::Failed { source, .. } if source.status().is_none()) {
                tree.end(&o, None)?;
            }
            return Err(error.into());
        }
        times.configure = start.elapsed();

        let start = Instant::now();
        let steps = self.make(tree, &make, full, &log, events)?;
        let built = self.image(&make, &folder, &log, steps)?;
        times.build = start.elapsed();
        events(BuildEvent::Built { steps, elapsed: times.build });
        Ok(built)
    }

    fn make(
        &self,
        tree: &mut Tree,
        make: &Make<'_>,
        full: bool,
        log: &Path,
        events: Events<'_>,
    ) -> Result<u32, KernelError> {
        let jobs = match self.spec.jobs {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            jobs => jobs,
        };
        events(BuildEvent::Building { jobs, log: log.to_owned() });
        let known = || KernelLine::of(&self.plan.source.version).and_then(|line| line.steps);
        let total = if full { tree.steps(make.o).or_else(known) } else { None };
        let mut steps = 0;
        let mut errors = ErrorWatch::default();
        let spec = make.spec().arg(format!("-j{jobs}")).arg("vmlinux").log(log).limit(self.spec.limit);
        let run = spec.run_lines(|line| {
            errors.line(line);
            if let Some((tool, target)) = step(line) {
                steps += 1;
                let (tool, target) = (tool.to_owned(), target.to_owned());
                events(BuildEvent::Step { done: steps, total, tool, target });
            }
        });
        match run {
            Ok(_) => {
                tree.end(make.o, full.then_some(steps))?;
                Ok(steps)
            }
            Err(source @ ProcessError::Interrupted { .. }) => Err(source.into()),
            Err(source) => {
                // make that exits removes what it has half written; one that was killed may not have.
                if source.has_exited() {
                    tree.end(make.o, None)?;
                }
                Err(KernelError::Build { first: errors.found().map(Box::new), log: log.to_owned(), source })
            }
        }
    }

    fn image(
        self,
        make: &Make<'_>,
        folder: &Path,
        log: &Path,
        steps: u32,
    ) -> Result<KernelImage, KernelError> {
        let there = |name: &str| own_file(folder, name, log);
        let (vmlinux, config, system_map) = (there("vmlinux")?, there(".config")?, there("System.map")?);
        let release = there("include/config/kernel.release")?;
        let release =
            std::fs::read_to_string(&release).map_err(io_error("read", &release))?.trim().to_owned();
        // The notes that QEMU looks for stay; symbols are in System.map, and in the kernel's own kallsyms.
        let stripped = folder.join("vmlinux.stripped");
        remove_tree(&stripped)?;
        let strip = ChildSpec::new(objcopy(&self.spec.make)).arg("--strip-all").arg(&vmlinux).arg(&stripped);
        make.confine(strip).run()?;
        let built = Built {
            vmlinux: &stripped,
            config: &config,
            system_map: &system_map,
            log,
            release,
            version: self.plan.source.version.clone(),
            source: self.plan.source.key.clone(),
            origin: self.plan.source.origin.clone(),
            toolchain: self.plan.toolchain.clone(),
            steps,
        };
        let image = self.store.put_image(&self.plan.key, built)?;
        std::fs::remove_file(&stripped).map_err(io_error("remove", &stripped))?;
        Ok(image)
    }
}

/// A file that the build has made: a plain one, in its folder. A link there could show us any file of the user's, and
/// what we read goes into the results.
pub(super) fn own_file(folder: &Path, name: impl AsRef<Path>, log: &Path) -> Result<PathBuf, KernelError> {
    let name = name.as_ref();
    let path = folder.join(name);
    let Ok(meta) = path.symlink_metadata() else {
        return Err(KernelError::NoImage { missing: path, log: log.to_owned() });
    };
    let inside = match (folder.canonicalize(), path.canonicalize()) {
        (Ok(folder), Ok(real)) => real == folder.join(name),
        _ => false,
    };
    if meta.is_file() && inside {
        return Ok(path);
    }
    Err(KernelError::NotOfTheBuild { path, log: log.to_owned() })
}
