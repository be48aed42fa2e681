// SPDX-License-Identifier: MIT OR Apache-2.0
//! A build folder of one object, made as kbuild makes it, and traces that name its functions.

use super::*;
use crate::kernel::{BuildTimes, Hash, ImageKey, Origin, SourceKey, Toolchain};
use crate::process::ChildSpec;

const SOURCE: &str = "\
static inline __attribute__((always_inline)) int inlined(int *p)
{
\treturn *p / *(p + 1);
}

__attribute__((noinline)) int callee(int *p)
{
\treturn inlined(p) + 1;
}

int caller(int *p)
{
\tint one = callee(p);
\treturn one + 2;
}
";

struct Bench {
    _temp: tempfile::TempDir,
    store: Store,
    image: KernelImage,
}

impl Bench {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let src = temp.path().join("tree/src");
        let folder = src.join("o-base");
        std::fs::create_dir_all(folder.join("kernel")).unwrap();
        std::fs::create_dir_all(src.join("kernel")).unwrap();
        std::fs::write(src.join("kernel/x.c"), SOURCE).unwrap();
        let make =
            ["gcc", "-Wp,-MMD,kernel/.x.o.d", "-O2", "-fno-pic", "-c", "-o", "kernel/x.o", "../kernel/x.c"];
        ChildSpec::new(make[0]).args(&make[1..]).dir(&folder).run().unwrap();
        let saved = format!(
            "savedcmd_kernel/x.o := {}\n\nsource_kernel/x.o := ../kernel/x.c\n\ndeps_kernel/x.o := \\\n",
            make.join(" ")
        );
        std::fs::write(folder.join("kernel/.x.o.cmd"), saved).unwrap();
        for name in ["System.map", ".config"] {
            std::fs::write(folder.join(name), name).unwrap();
            std::fs::write(temp.path().join(name), name).unwrap();
        }
        let image = KernelImage {
            key: ImageKey(Hash::of(b"")),
            vmlinux: temp.path().join("vmlinux"),
            config: temp.path().join(".config"),
            system_map: temp.path().join("System.map"),
            build_log: temp.path().join("build.log"),
            release: "6.12.0".to_owned(),
            version: "6.12".to_owned(),
            source: SourceKey("test".to_owned()),
            origin: Origin::Directory { path: src.clone(), sha256: Hash::of(b"") },
            toolchain: Toolchain { compiler: String::new(), linker: String::new() },
            patches: Vec::new(),
            cached: true,
            steps: 0,
            slowdown: 1,
            place: Some(BuildPlace { lock: "tree".to_owned(), src, folder }),
            times: BuildTimes::default(),
        };
        Self { store: Store::open(&temp.path().join("cache")).unwrap(), image, _temp: temp }
    }

    fn place(&self) -> &BuildPlace {
        self.image.place.as_ref().unwrap()
    }

    /// Function and offset of the only call, and of the only division, as a kernel prints them.
    fn trace(&self) -> Vec<String> {
        let disassembly =
            ChildSpec::new("objdump").args(["-d", "kernel/x.o"]).dir(&self.place().folder).read();
        let disassembly = disassembly.unwrap();
        let at = |function: &str, what: &str, next: usize| {
            let lines: Vec<&str> = disassembly.lines().collect();
            let first = lines.iter().position(|line| line.ends_with(&format!("<{function}>:"))).unwrap();
            let here = (first..lines.len()).find(|line| lines[*line].contains(what)).unwrap();
            let number =
                |line: &str| u64::from_str_radix(line.trim().split(':').next().unwrap(), 16).unwrap();
            let start = u64::from_str_radix(lines[first].split(' ').next().unwrap(), 16).unwrap();
            number(lines[here + next]) - start
        };
        let size = |function: &str| {
            let table =
                ChildSpec::new("nm").args(["-S", "kernel/x.o"]).dir(&self.place().folder).read().unwrap();
            let line = table.lines().find(|line| line.ends_with(&format!(" {function}"))).unwrap();
            u64::from_str_radix(line.split(' ').nth(1).unwrap(), 16).unwrap().next_multiple_of(16)
        };
        vec![
            "divide error: 0000 [#1] PREEMPT SMP".to_owned(),
            format!("RIP: 0010:callee+{:#x}/{:#x}", at("callee", "idivl", 0), size("callee")),
            "Call Trace:".to_owned(),
            " <TASK>".to_owned(),
            // What the call comes back to is the next statement already.
            format!(" caller+{:#x}/{:#x}", at("caller", "call", 1), size("caller")),
            " somebody_else+0x1/0x20".to_owned(),
        ]
    }

    fn decode(&self, lines: &[String]) -> Result<Vec<String>, NotDecoded> {
        decode(&self.store, &self.image, lines, Duration::from_secs(60))
    }
}

/// Every file of a tree, with its time.
fn state(folder: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let files = crate::kernel::digest::walk(folder, &|_| false).unwrap();
    files
        .into_iter()
        .map(|file| (file.clone(), folder.join(file).metadata().unwrap().modified().unwrap()))
        .collect()
}

#[test]
fn a_trace_is_given_its_places_in_the_sources_and_the_tree_stays_as_it_is() {
    let bench = Bench::new();
    let trace = bench.trace();
    let before = state(&bench.place().src);
    let decoded = bench.decode(&trace).unwrap();
    assert_eq!(state(&bench.place().src), before);
    let added: Vec<Option<&str>> =
        decoded.iter().zip(&trace).map(|(decoded, raw)| decoded.strip_prefix(raw.as_str())).collect();
    let nothing = Some("");
    // The innermost place first, then what it was inlined into.
    let rip = Some(" (kernel/x.c:3 kernel/x.c:8)");
    assert_eq!(added, [nothing, rip, nothing, nothing, Some(" (kernel/x.c:13)"), nothing], "{decoded:#?}");
}

#[test]
fn what_is_not_certain_is_not_decoded_and_says_why() {
    let bench = Bench::new();
    let trace = bench.trace();
    assert!(matches!(bench.decode(&["audit: backlog limit exceeded".to_owned()]), Err(NotDecoded::NoFrames)));
    let elsewhere = [" somebody_else+0x1/0x20".to_owned()];
    assert!(matches!(bench.decode(&elsewhere), Err(NotDecoded::Nothing(_))));

    let lock = Lock::take(&bench.store.path("locks/tree.lock"), &mut |_| {}).unwrap();
    assert!(matches!(bench.decode(&trace), Err(NotDecoded::InUse)));
    drop(lock);

    let source = bench.place().src.join("kernel/x.c");
    std::fs::write(&source, format!("\n\n{SOURCE}")).unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(5);
    std::fs::File::options().write(true).open(&source).unwrap().set_modified(later).unwrap();
    let error = bench.decode(&trace).unwrap_err().to_string();
    assert!(error.contains("kernel/x.c was changed since"), "{error}");

    // Changed, and so long ago that its time tells nothing.
    std::fs::write(
        &source,
        SOURCE.replace("one + 2", "one * one * 77 + callee(p + 1)").replace("+ 1;", "+ 99 * p[3];"),
    )
    .unwrap();
    std::fs::File::options().write(true).open(&source).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let error = bench.decode(&trace).unwrap_err().to_string();
    assert!(error.contains("is another function when it is compiled again"), "{error}");

    std::fs::write(bench.place().folder.join("System.map"), "another").unwrap();
    assert!(matches!(bench.decode(&trace), Err(NotDecoded::OtherImage(_))));
    std::fs::remove_dir_all(&bench.place().folder).unwrap();
    assert!(matches!(bench.decode(&trace), Err(NotDecoded::NoTree)));
}
