// SPDX-License-Identifier: MIT OR Apache-2.0
//! Containers inside containers inside containers.

use nstrail_wire::{
    scenario::size,
    step::{Death, Nest},
};

use super::{
    death::{Ending, kill, see_off, wait},
    error::{Failed, StepError},
    pipe::Pipe,
    spawn::{Made, Make, make_child},
    task::Task,
};

/// Does a [`Step::Nest`](nstrail_wire::step::Step::Nest).
pub fn step(task: &mut Task, nest: &Nest, number: u32) -> Result<(), StepError> {
    if nest.death != Death::Kill {
        let (made, make) = level(task, nest, number, 1, None)?;
        return see_off(task, &made, &make, Death::Exit);
    }
    let ready = Pipe::new()?;
    let (made, make) = level(task, nest, number, 1, Some(ready))?;
    ready.await_byte()?;
    kill(made.local_pid)?;
    see_off(task, &made, &make, Death::Kill)
}

/// Makes the task of a level, which makes that of the next one. `ready` is for the last level to say that all stand.
fn level(
    task: &mut Task,
    nest: &Nest,
    number: u32,
    depth: u32,
    ready: Option<Pipe>,
) -> Result<(Made, Make), StepError> {
    let next = |child: &mut Task| -> Result<(), StepError> {
        let (made, make) = level(child, nest, number, depth + 1, ready)?;
        if ready.is_none() {
            return see_off(child, &made, &make, Death::Exit);
        }
        // Killed while it waits, as everybody here.
        wait(made.local_pid)?;
        Err(StepError::Scenario("a level ended before the first one was killed"))
    };
    let body = |child: &mut Task| -> Result<(), Failed> {
        child.walk(&nest.each, number + 1)?;
        if depth < nest.depth {
            child.step = number;
            next(child).map_err(|error| Failed { step: child.step, error })
        } else {
            child.walk(&nest.inside, number + 1 + size(&nest.each))
        }
    };
    let make = Make::plain(nest.call, &nest.flags);
    let ending = match ready {
        Some(ready) if depth == nest.depth => Ending::BeKilled { ready: ready.write },
        _ => Ending::Exit,
    };
    let made = make_child(task, &make, ending, None, &body, None)?;
    Ok((made.ok_or(StepError::Scenario("a level was refused"))?, make))
}
