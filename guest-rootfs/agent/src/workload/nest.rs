// SPDX-License-Identifier: MIT OR Apache-2.0
//! Containers inside containers inside containers.

use nstrail_wire::{
    scenario::size,
    step::{Death, Nest},
};

use super::{
    death::{Ending, see_off},
    error::{Failed, StepError},
    spawn::{Make, make_child},
    task::Task,
};

/// Does a [`Step::Nest`](nstrail_wire::step::Step::Nest).
pub fn step(task: &mut Task, nest: &Nest, number: u32) -> Result<(), StepError> {
    level(task, nest, number, 1)
}

fn level(task: &mut Task, nest: &Nest, number: u32, depth: u32) -> Result<(), StepError> {
    let body = |child: &mut Task| -> Result<(), Failed> {
        child.walk(&nest.each, number + 1)?;
        if depth < nest.depth {
            child.step = number;
            level(child, nest, number, depth + 1).map_err(|error| Failed { step: child.step, error })
        } else {
            child.walk(&nest.inside, number + 1 + size(&nest.each))
        }
    };
    let make = Make::plain(nest.call, &nest.flags);
    match make_child(task, &make, Ending::Exit, None, &body, None)? {
        Some(made) => see_off(task, &made, &make, Death::Exit),
        None => Ok(()),
    }
}
