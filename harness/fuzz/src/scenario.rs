// SPDX-License-Identifier: MIT OR Apache-2.0
//! A scenario's TOML, with the objections to it.

use std::path::Path;

use nstrail::plan::{line, objection, scenario as plan, title::title};
use nstrail_wire::{
    message::{HostMessage, decode, encode},
    scenario::{Scenario, size},
};

/// A file.
pub fn scenario(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let scenario = match plan::parse(text, Path::new("x.toml")) {
        Ok(scenario) => scenario,
        Err(error) => {
            assert!(error.to_string().starts_with("x.toml: "));
            return;
        }
    };
    assert_eq!(objection::check(&scenario), Ok(()));
    let steps = scenario.preorder();
    assert_eq!(steps.len() as u64, u64::from(size(&scenario.steps)));
    assert!(steps.into_iter().all(|step| !title(step).is_empty()));
    for kernel in ["5.10", "6.1", "6.12", "7.3"] {
        let (adapted, told) = line::on(&scenario, kernel.parse().ok());
        assert_eq!(size(&adapted.steps), size(&scenario.steps), "numbers shift on {kernel}");
        assert!(told.iter().all(|told| told.starts_with("step ")));
    }
    // As it goes to the guest, and as it lies in a recording.
    let message = HostMessage::Start { scenario, seed: 7 };
    let sent = encode(&message).expect("a message");
    assert_eq!(decode::<HostMessage>(&sent), Ok(message.clone()));
    let HostMessage::Start { scenario, .. } = message;
    let recorded = serde_json::to_string(&scenario).expect("a recording");
    assert_eq!(serde_json::from_str::<Scenario>(&recorded).expect("the recording again"), scenario);
}
