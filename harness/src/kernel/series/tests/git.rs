// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ranges of a small repository, the base commit, and range-diff.

use super::super::super::source::{Origin, Source, SourceKey, SourceSpec};
use super::super::super::{Store, source};
use super::super::{BaseCheck, SeriesInput, Side, range_diff};
use super::*;

struct Repository(tempfile::TempDir);

impl Repository {
    fn new() -> Repository {
        let repository = Repository(tempfile::tempdir().unwrap());
        repository.git(&["init", "-q", "-b", "main"]);
        let makefile = "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 0\nEXTRAVERSION =\n";
        repository.commit("base", &[("f", "1\n2\n3\n4\n5\n6\n7\n8\n9\n"), ("Makefile", makefile)]);
        repository.git(&["tag", "base"]);
        repository
            .commit("f: Größe\n\nFrom here on it counts.\n", &[("f", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n")]);
        repository.commit("[x] g: new", &[("g", "new\n")]);
        repository
    }

    fn git(&self, args: &[&str]) -> String {
        let who = ["-c", "user.name=A B", "-c", "user.email=a@b", "-c", "commit.gpgSign=false"];
        source::git(self.0.path()).args(who).args(args).read().unwrap().trim().to_owned()
    }

    fn commit(&self, message: &str, files: &[(&str, &str)]) {
        files.iter().for_each(|(name, text)| std::fs::write(self.0.path().join(name), text).unwrap());
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    fn read(&self, range: &str) -> Result<Series, SeriesError> {
        let text = format!("{}@{range}", self.0.path().display());
        SeriesInput::parse(Path::new(&text), None)?.read()
    }

    fn source(&self, commit: &str) -> Source {
        let origin = Origin::Git { repository: self.0.path().to_owned(), commit: commit.to_owned() };
        let key: SourceKey = serde_json::from_str("\"git-x\"").unwrap();
        Source { key, tree: self.0.path().to_owned(), version: "6.12.0".into(), origin }
    }
}

#[test]
fn a_range_of_commits_is_a_series() {
    let repository = Repository::new();
    // A user's configuration changes nothing.
    for (key, value) in [("diff.noprefix", "true"), ("format.subjectPrefix", "X"), ("color.ui", "always")] {
        repository.git(&["config", key, value]);
    }
    let series = repository.read("base..main").unwrap();
    let seen: Vec<_> =
        series.patches.iter().map(|patch| (patch.name.as_str(), patch.subject.as_str())).collect();
    assert_eq!(seen, [("0001-f-Gr-e.patch", "f: Größe"), ("0002-g-new.patch", "g: new")]);
    assert_eq!(series.patches[0].message, "From here on it counts.");
    assert_eq!(series.patches[0].author, "A B <a@b>");
    assert_eq!(series.base_commit.as_deref(), Some(repository.git(&["rev-parse", "base"]).as_str()));
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join("f"), "1\n2\n3\n4\n5\n6\n7\n8\n9\n").unwrap();
    let (overlay, _) = series.apply(tree.path(), &mut |_| ()).unwrap();
    assert_eq!(overlay.files().len(), 2);
}

#[test]
fn a_range_that_is_none_says_so() {
    let repository = Repository::new();
    let error = |range: &str| repository.read(range).unwrap_err().to_string();
    assert!(error("main..base").contains("there is no commit in it (hint: "));
    assert!(error("nothing..main").contains("`nothing` is no commit there"));
    repository.git(&["checkout", "-q", "-b", "side", "base"]);
    repository.commit("side", &[("h", "x\n")]);
    repository.git(&["checkout", "-q", "main"]);
    repository.git(&["merge", "-q", "--no-edit", "side"]);
    assert!(error("base..main").contains("it has merges, which no patch can be made of: "));
}

#[test]
fn the_base_commit_is_compared_with_the_tree() {
    let repository = Repository::new();
    let commit = |revision: &str| repository.git(&["rev-parse", revision]);
    let mut series = repository.read("main~1..main").unwrap();
    let mut words = |base: &str, tree: &str| {
        series.base_commit = Some(base.to_owned());
        let check = BaseCheck::of(&series, &repository.source(tree)).unwrap().unwrap();
        (check.is_warning(), check.to_string())
    };
    let (base, tip) = (commit("base"), commit("main"));
    assert_eq!(words(&base, &base), (false, format!("base-commit {} is the tree's", &base[..12])));
    assert_eq!(words(&base[..12], &base), (false, format!("base-commit {} is the tree's", &base[..12])));
    let (warning, text) = words(&base, &tip);
    assert!(
        warning && text.ends_with(&format!("but the tree is at {}, which is later", &tip[..12])),
        "{text}"
    );
    assert!(words(&tip, &base).1.ends_with("which does not have it"));
    assert!(words(&"1".repeat(40), &base).1.contains("is not in the repository"));
    let mut source = repository.source(&base);
    source.origin = Origin::Tarball { path: "x.tar".into(), sha256: Hash::of(b"") };
    let check = BaseCheck::of(&series, &source).unwrap().unwrap();
    assert_eq!(
        check.to_string(),
        "base-commit 111111111111 (not checked: source is not a git tree)"
            .replace("111111111111", &check.commit[..12])
    );
}

#[test]
fn two_series_are_compared_patch_by_patch_and_nothing_is_left_behind() {
    let repository = Repository::new();
    repository.git(&["checkout", "-q", "-b", "v2", "base"]);
    repository.commit("f: Größe\n\nFrom here on it counts.\n", &[("f", "1\n2\n3\n4\nFIVE\n6\n7\n8\n9\n")]);
    repository.commit("[x] g: new", &[("g", "new\n")]);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let side = |range: &str| Side {
        label: range.to_owned(),
        series: repository.read(range).unwrap(),
        source: SourceSpec::Git { repository: repository.0.path().to_owned(), revision: "base".into() },
    };
    let (a, b) = (side("base..main"), side("base..v2"));
    let mut lines = Vec::new();
    range_diff(&store, [&a, &b], false, &mut |_| (), |line| lines.push(line.to_owned())).unwrap();
    let text = lines.join("\n");
    let titles: Vec<&str> = lines.iter().filter(|line| !line.starts_with(' ')).map(String::as_str).collect();
    assert!(titles[0].contains(" ! ") && titles[0].ends_with("f: Größe"), "{text}");
    assert!(titles[1].contains(" = ") && titles[1].ends_with("g: new"), "{text}");
    assert!(text.contains("    -+five") && text.contains("    ++FIVE"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path().join("scratch")).unwrap().count(), 0);
    // A patch that does not apply says of which side it is.
    let mut bad = b;
    bad.series.patches.remove(1);
    bad.series.patches.push(repository.read("main~1..main").unwrap().patches.remove(0));
    bad.series.patches.push(bad.series.patches[1].clone());
    let error = range_diff(&store, [&a, &bad], false, &mut |_| (), |_| ()).unwrap_err().to_string();
    assert!(
        error.starts_with("base..v2: 0001-g-new.patch does not apply: g: the file exists already"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(dir.path().join("scratch")).unwrap().count(), 0);
}
