// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accelerator of a run's guests, until one of them shows that it cannot carry a kernel.
//!
//! A KVM that carries the probe's few instructions may still fail at a kernel's: under some nested hypervisors that emulate
//! what they cannot run, the guest is stopped for ever before its first line of output. So KVM that nobody
//! asked for is trusted guest by guest. One that its agent was never heard from runs again under TCG; if TCG carries
//! it, KVM was at fault, and is out from then on, for later runs on this host too.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::accelerator::{self, Accelerator, AcceleratorChoice, AcceleratorError, Decision};

/// A plain kernel under KVM says its first word, or its agent does, within a second.
const FIRST_SIGN: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct Chosen {
    decision: Mutex<Decision>,
    choice: AcceleratorChoice,
    qemu: PathBuf,
    cache: PathBuf,
}

/// What came of a guest.
#[derive(Debug)]
pub struct Carried<T> {
    pub result: T,
    /// It has shown that KVM does not work: the decision is another one now.
    pub refuted: bool,
}

impl Chosen {
    /// Decides, as [`accelerator::decide`] does.
    ///
    /// # Errors
    /// As there.
    pub fn new(choice: AcceleratorChoice, qemu: &Path, cache: &Path) -> Result<Self, AcceleratorError> {
        let decision = accelerator::decide(choice, qemu, cache)?;
        Ok(Self { decision: Mutex::new(decision), choice, qemu: qemu.to_owned(), cache: cache.to_owned() })
    }

    /// What stands now.
    #[must_use]
    pub fn decision(&self) -> Decision {
        self.lock().clone()
    }

    /// How long a guest under this accelerator may be silent before its first sign of life: `silence`, unless it is KVM on
    /// trial. `slowdown` is that of the kernel's debug options.
    #[must_use]
    pub fn first_sign(&self, accelerator: Accelerator, silence: Duration, slowdown: u32) -> Duration {
        if self.on_trial(accelerator) { silence.min(FIRST_SIGN * slowdown) } else { silence }
    }

    /// Runs a guest. `mute` says why, if its agent was never heard.
    ///
    /// # Errors
    /// What `attempt` gives.
    pub fn carry<T, E>(
        &self,
        mut attempt: impl FnMut(Accelerator) -> Result<T, E>,
        mute: impl Fn(&T) -> Option<String>,
    ) -> Result<Carried<T>, E> {
        let accelerator = self.lock().accelerator;
        let result = attempt(accelerator)?;
        let why = match mute(&result) {
            Some(why) if self.on_trial(accelerator) => why,
            _ => return Ok(Carried { result, refuted: false }),
        };
        let result = attempt(Accelerator::Tcg)?;
        let refuted = mute(&result).is_none();
        if refuted {
            self.refute(&why);
        }
        Ok(Carried { result, refuted })
    }

    fn on_trial(&self, accelerator: Accelerator) -> bool {
        accelerator == Accelerator::Kvm && self.choice == AcceleratorChoice::Auto
    }

    fn refute(&self, why: &str) {
        let trouble = format!("a guest got through under TCG only, and under KVM: {why}");
        accelerator::remember(&self.qemu, &self.cache, Some(trouble.clone()));
        let reason = accelerator::distrust(&trouble);
        *self.lock() = Decision { accelerator: Accelerator::Tcg, reason, probed: true };
    }

    fn lock(&self) -> MutexGuard<'_, Decision> {
        self.decision.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const QEMU: &str = "/nowhere/qemu";

    /// KVM decided by a probe that is remembered as one that got through.
    fn trusting(cache: &Path, choice: AcceleratorChoice) -> Chosen {
        accelerator::remember(Path::new(QEMU), cache, None);
        Chosen::new(choice, Path::new(QEMU), cache).unwrap()
    }

    /// A guest that is heard under some accelerators only: under which it was run, and what was decided.
    fn run(chosen: &Chosen, heard: &[Accelerator]) -> (Vec<Accelerator>, bool) {
        let mut tried = Vec::new();
        let attempt = |accelerator| {
            tried.push(accelerator);
            Ok::<_, Infallible>(heard.contains(&accelerator))
        };
        let Ok(carried) = chosen.carry(attempt, |heard| (!heard).then(|| "it hung".to_owned()));
        (tried, carried.refuted)
    }

    #[test]
    fn a_kvm_that_carries_the_probe_but_no_kernel_is_found_out_and_remembered() {
        use Accelerator::{Kvm, Tcg};
        let cache = tempfile::tempdir().unwrap();
        let chosen = trusting(cache.path(), AcceleratorChoice::Auto);
        assert_eq!(chosen.decision().accelerator, Kvm);
        assert_eq!(run(&chosen, &[Kvm, Tcg]), (vec![Kvm], false));
        assert_eq!(run(&chosen, &[Tcg]), (vec![Kvm, Tcg], true));
        let decision = chosen.decision();
        assert_eq!(decision.accelerator, Tcg);
        assert!(decision.reason.contains("KVM does not work") && decision.reason.contains("it hung"));
        // It is not tried again, now or later.
        assert_eq!(run(&chosen, &[Tcg]), (vec![Tcg], false));
        let later = Chosen::new(AcceleratorChoice::Auto, Path::new(QEMU), cache.path()).unwrap().decision();
        assert_eq!((later.accelerator, later.reason), (Tcg, decision.reason));
    }

    #[test]
    fn a_kernel_that_does_not_boot_says_nothing_about_kvm() {
        use Accelerator::{Kvm, Tcg};
        let cache = tempfile::tempdir().unwrap();
        let chosen = trusting(cache.path(), AcceleratorChoice::Auto);
        assert_eq!(run(&chosen, &[]), (vec![Kvm, Tcg], false));
        assert_eq!(chosen.decision().accelerator, Kvm);
    }

    #[test]
    fn a_kvm_that_was_asked_for_is_kept_to() {
        use Accelerator::{Kvm, Tcg};
        let cache = tempfile::tempdir().unwrap();
        let chosen = trusting(cache.path(), AcceleratorChoice::Kvm);
        assert_eq!(run(&chosen, &[Tcg]), (vec![Kvm], false));
        let minute = Duration::from_secs(60);
        assert_eq!(chosen.first_sign(Kvm, minute, 1), minute);
    }

    #[test]
    fn only_kvm_on_trial_must_be_heard_early() {
        let cache = tempfile::tempdir().unwrap();
        let chosen = trusting(cache.path(), AcceleratorChoice::Auto);
        let minute = Duration::from_secs(60);
        assert_eq!(chosen.first_sign(Accelerator::Kvm, minute, 4), FIRST_SIGN * 4);
        assert_eq!(chosen.first_sign(Accelerator::Tcg, minute, 4), minute);
        let second = Duration::from_secs(1);
        assert_eq!(chosen.first_sign(Accelerator::Kvm, second, 1), second);
    }
}
