// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail review`: pending snapshots. `cargo insta review` does the same by dialogue.

use nstrail::{
    outcome::Outcome,
    report::escape::lines,
    snapshot::{ReviewError, Shelf},
};

use super::{args::ReviewAction, context::Context, exit::Ending};

pub fn review(context: &Context, action: Option<ReviewAction>) -> Ending {
    let shelf = match context.project() {
        Ok(project) => Shelf::new(project.snapshots()),
        Err(message) => return Ending::Usage(message),
    };
    match act(&shelf, action.unwrap_or(ReviewAction::List)) {
        Ok(()) => Ending::Done,
        Err(error @ ReviewError::NotPending { .. }) => Ending::Usage(error.to_string()),
        Err(error) => Ending::Failed(Outcome::Error, error.to_string()),
    }
}

fn act(shelf: &Shelf, action: ReviewAction) -> Result<(), ReviewError> {
    let named = |names: Vec<String>| if names.is_empty() { shelf.pending() } else { Ok(names) };
    match action {
        ReviewAction::List => {
            for name in shelf.pending()? {
                println!("{name}");
            }
        }
        ReviewAction::Diff => {
            for name in shelf.pending()? {
                println!("{name}\n{}", lines(&shelf.diff(&name)?));
            }
        }
        ReviewAction::Accept { names } => {
            for name in named(names)? {
                shelf.accept(&name)?;
                println!("accepted {name}");
            }
        }
        ReviewAction::Reject { names } => {
            for name in named(names)? {
                shelf.reject(&name)?;
                println!("rejected {name}");
            }
        }
    }
    Ok(())
}
