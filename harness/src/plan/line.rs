// SPDX-License-Identifier: MIT OR Apache-2.0
//! A scenario as a kernel of some version is asked it. Scenarios are written for the newest kernel; what an older one
//! does otherwise stands beside the step (`refused_before`, `since`), with the commit that changed it in a comment.

use nstrail_wire::{
    scenario::{Scenario, numbered},
    step::{Absent, RuleStep, Step},
    version::KernelVersion,
};

use super::title::title;

/// The scenario for a kernel, and in words what is otherwise. A kernel whose version nobody knows is a new one.
#[must_use]
pub fn on(scenario: &Scenario, kernel: Option<KernelVersion>) -> (Scenario, Vec<String>) {
    let mut scenario = scenario.clone();
    let mut told = Vec::new();
    if let Some(kernel) = kernel {
        let mut line = Line { kernel, rules: Vec::new(), told: &mut told };
        line.steps(&mut scenario.steps, 0);
    }
    (scenario, told)
}

struct Line<'a> {
    kernel: KernelVersion,
    /// Keys of rules that are left out, and since when the kernel has what they need.
    rules: Vec<(String, KernelVersion)>,
    told: &'a mut Vec<String>,
}

impl Line<'_> {
    fn steps(&mut self, steps: &mut [Step], first: u32) {
        let numbers: Vec<u32> = numbered(steps, first).map(|(number, _)| number).collect();
        for (step, number) in steps.iter_mut().zip(numbers) {
            self.step(step, number);
        }
    }

    fn step(&mut self, step: &mut Step, number: u32) {
        if let Some(since) = self.lacks(step) {
            self.told.push(format!("step {number} ({}) is left out: since Linux {since}", title(step)));
            *step = Step::Absent(Absent { since, numbers: step.size(), control: step.is_control() });
            return;
        }
        match step {
            Step::Spawn(spawn) => {
                if let Some(refused) = spawn.refused_before
                    && self.kernel < refused.kernel
                {
                    let (kernel, errno) = (refused.kernel, refused.expect);
                    self.told.push(format!("step {number} (spawn) is {errno}: before Linux {kernel}"));
                    spawn.expect = Some(errno);
                }
                self.steps(&mut spawn.inside, number + 1);
            }
            Step::Exec(exec) => self.steps(&mut exec.inside, number + 1),
            Step::Repeat(repeat) => self.steps(&mut repeat.inside, number + 1),
            Step::Nest(nest) => {
                self.steps(&mut nest.each, number + 1);
                let each = nstrail_wire::scenario::size(&nest.each);
                self.steps(&mut nest.inside, number + 1 + each);
            }
            _ => {}
        }
    }

    /// The kernel that first has what the step needs, if this one does not.
    fn lacks(&mut self, step: &Step) -> Option<KernelVersion> {
        let since = match step {
            Step::Spawn(spawn) => spawn.since?,
            Step::Rule(RuleStep::Add(rule)) => rule.since?,
            Step::Rule(RuleStep::Remove(key)) => {
                return self.rules.iter().find(|(left_out, _)| left_out == key).map(|(_, since)| *since);
            }
            _ => return None,
        };
        if self.kernel >= since {
            return None;
        }
        if let Step::Rule(RuleStep::Add(rule)) = step {
            self.rules.push((rule.key.clone(), since));
        }
        Some(since)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nstrail_wire::{errno::Errno, scenario::size};

    use super::*;
    use crate::plan::scenario;

    fn adapted(text: &str, kernel: &str) -> (Scenario, Vec<String>) {
        let text = format!("name = \"x\"\ndescription = \"y\"\n{text}");
        let scenario = scenario::parse(&text, Path::new("x.toml")).unwrap();
        let (adapted, told) = on(&scenario, Some(kernel.parse().unwrap()));
        assert_eq!(size(&adapted.steps), size(&scenario.steps), "numbers shift");
        (adapted, told)
    }

    #[test]
    fn an_older_kernel_refuses_and_a_newer_one_does_not() {
        let text = "[[step]]\nspawn = { call = \"fork\", inside = [{ spawn = { call = \"vfork\", \
            refused_before = { kernel = \"6.3\", expect = \"EINVAL\" }, inside = [{ probe = \"syscall\" }] } }] }\n";
        let expected = |kernel| {
            let (scenario, told) = adapted(text, kernel);
            let inner = scenario.preorder()[1].clone();
            let Step::Spawn(spawn) = inner else { panic!("{inner:?}") };
            (spawn.expect, told.len())
        };
        assert_eq!(expected("6.1"), (Some(Errno::EINVAL), 1));
        assert_eq!(expected("6.3"), (None, 0));
        assert_eq!(adapted(text, "6.1").1, ["step 1 (spawn) is EINVAL: before Linux 6.3"]);
    }

    #[test]
    fn a_step_and_a_rule_that_the_kernel_lacks_are_left_out_and_told() {
        let text = "[[step]]\nrule = { add = { key = \"r\", list = \"io_uring\", action = \"always\", since = \"5.16\" } }\n\
            [[step]]\nspawn = { call = \"fork\", since = \"5.16\", inside = [{ probe = \"io_uring\" }] }\n\
            [[step]]\nrule = { remove = \"r\" }\n[[step]]\nfence = {}\n";
        let (scenario, told) = adapted(text, "5.10");
        let since = "5.16".parse().unwrap();
        let absent = |numbers, control| Step::Absent(Absent { since, numbers, control });
        assert_eq!(scenario.steps[..3], [absent(1, true), absent(2, false), absent(1, true)]);
        assert_eq!(
            told,
            [
                "step 0 (add rule r) is left out: since Linux 5.16",
                "step 1 (spawn) is left out: since Linux 5.16",
                "step 3 (remove rule r) is left out: since Linux 5.16"
            ]
        );
        assert_eq!(adapted(text, "5.16").1, [""; 0]);
    }

    #[test]
    fn a_new_or_unknown_kernel_is_asked_everything() {
        for (name, text) in scenario::EMBEDDED {
            let scenario = scenario::parse(text, Path::new(name)).unwrap();
            for kernel in [None, "6.12".parse().ok(), "7.3".parse().ok()] {
                assert_eq!(on(&scenario, kernel), (scenario.clone(), Vec::new()), "{name}");
            }
        }
    }
}
