//! Open conversations over time, and those that were reset.

use super::{
    Chart, Frame,
    axes::{Area, Linear},
    path::Path,
};
use crate::units;

/// Conversations of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenStep {
    /// Number of those open at its end.
    pub open: u64,
    /// Number of those opened in it.
    pub opened: u64,
    /// Number of those ended in it.
    pub ended: u64,
    /// Number of those that ended by a reset.
    pub reset: u64,
}

/// Draws the number of open conversations, with a mark at each step in which one was reset. A step whose figures are not known
/// (`None`) is left empty.
pub fn conversations(frame: &Frame, steps: &[Option<OpenStep>]) -> Chart {
    let area = Area::new(frame);
    let most = steps.iter().flatten().map(|step| step.open).max();
    let most = most.unwrap_or(0);
    let scale = Linear::new(area, most as f64);
    let mut body = String::new();
    scale.grid(true, &mut body);
    area.times(frame, &mut body);
    area.baseline(&mut body);
    let (mut filled, mut edge, mut reset) = (Path::new(), Path::new(), Path::new());
    // Known steps are the last ones.
    let first = steps.iter().take_while(|step| step.is_none()).count();
    filled.to(area.x(frame, first), area.bottom);
    for (n, step) in steps.iter().enumerate() {
        let Some(step) = step else { continue };
        let (left, right) = (area.x(frame, n), area.x(frame, n + 1));
        let y = scale.y(step.open as f64);
        for path in [&mut filled, &mut edge] {
            path.to(left, y);
            path.to(right, y);
        }
        if step.reset > 0 {
            reset.rectangle(left.midpoint(right) - 3.0, area.bottom - 6.0, 6.0, 6.0);
        }
    }
    filled.to(area.x(frame, steps.len()), area.bottom);
    filled.close();
    if most > 0 {
        filled.draw("area", &mut body);
    }
    edge.draw("edge", &mut body);
    reset.draw("badfill", &mut body);
    Chart {
        width: frame.width,
        height: frame.height,
        name: "conversations",
        title: "Open conversations",
        sentence: describe(steps),
        body,
    }
}

fn describe(steps: &[Option<OpenStep>]) -> String {
    let known = || steps.iter().flatten();
    let sum = |of: fn(&OpenStep) -> u64| units::whole(known().map(of).sum());
    let open = units::whole(known().last().map_or(0, |step| step.open));
    let (opened, ended) = (sum(|step| step.opened), sum(|step| step.ended));
    let reset = sum(|step| step.reset);
    if known().count() == 0 && !steps.is_empty() {
        return "There are too many conversations to tell which were open in this time.".to_owned();
    }
    let since = if known().count() < steps.len() {
        " There are too many conversations to tell how many were open before."
    } else {
        ""
    };
    format!(
        "{open} open at the end; {opened} opened and {ended} ended, {reset} of them by a reset.{since}"
    )
}
