// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stage for real, on kernels that compile in a blink.

mod build;
mod confined;
mod fetch;

use std::path::Path;

use super::BuildEvent;

/// A tree with kbuild's entry points: the targets that we call, merge_config.sh, and two objects to compile. It
/// drops CONFIG_DENIED as Kconfig drops what it cannot grant, and is killed in the middle of a file while `KILLED` exists.
const MAKEFILE: &str = include_str!("../../tests/common/fake_kernel.mk");

/// As the kernel's own is called: `-m -O FOLDER BASE FRAGMENT...`.
const MERGE_CONFIG: &str = "#!/bin/sh\nshift 3\nbase=$1\nshift\ncat \"$@\" >> \"$base\"\n";

const KCONFIG: &str = "config DENIED\n\tbool \"denied\"\n\tdepends on ABSENT && BASE\n";

fn fake_kernel(tree: &Path) {
    let files = [
        ("Makefile", MAKEFILE),
        ("Kconfig", KCONFIG),
        ("scripts/kconfig/merge_config.sh", MERGE_CONFIG),
        ("include/common.h", "#define COMMON 1\n"),
        ("kernel/a.c", "#include \"common.h\"\nint f(void)\n{\n\treturn COMMON;\n}\n"),
        ("kernel/b.c", "#include \"common.h\"\nint g(void)\n{\n\treturn 2;\n}\n"),
    ];
    for (path, text) in files {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Events of a call, and the steps of make among them.
#[derive(Default)]
struct Seen(Vec<BuildEvent>);

impl Seen {
    fn steps(&self) -> Vec<String> {
        let step = |event: &BuildEvent| match event {
            BuildEvent::Step { tool, target, .. } => Some(format!("{tool} {target}")),
            _ => None,
        };
        self.0.iter().filter_map(step).collect()
    }

    fn damaged(&self) -> usize {
        self.0.iter().filter(|event| matches!(event, BuildEvent::Damaged { .. })).count()
    }
}
