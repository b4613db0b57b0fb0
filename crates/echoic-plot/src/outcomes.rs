//! What became of datagrams that did not simply come back answered.

use kuva::plot::BarPlot;

use crate::{
    palette::Tone,
    paper::{Axis, Scale, even, sheet},
    svg::{Caption, Svg},
    units,
};

/// Datagrams that met the same end.
#[derive(Clone, Debug)]
pub struct OutcomeCount {
    /// In a word: `lost`, `late`.
    pub name: &'static str,
    /// How many.
    pub count: u64,
    /// Whether that is bad.
    pub tone: Tone,
}

/// Room for `duplicate 1,234,567 (0.123 %)`.
const LEFT: f64 = 250.0;
const ROW_HEIGHT: f64 = 26.0;

/// The fates of `sent` datagrams, as bars. Those simply answered are told in words beside it: a bar for them would
/// leave no room for the rest. `None` where nothing was sent or no fate is named.
pub fn outcomes(sent: u64, answered: u64, outcomes: &[OutcomeCount]) -> Option<Svg> {
    if sent == 0 || outcomes.is_empty() {
        return None;
    }
    let share = |count: u64| units::percent(count as f64 / sent as f64);
    let labels = outcomes.iter().map(|outcome| {
        let count = units::whole(outcome.count);
        format!("{}  {count}  ({})", outcome.name, share(outcome.count))
    });
    // The library counts its rows from the foot of the sheet.
    let labels: Vec<String> = labels.rev().collect();
    let bars = outcomes.iter().rev().zip(&labels).map(|(outcome, label)| {
        let colour = if outcome.count == 0 {
            Tone::Quiet
        } else {
            outcome.tone
        };
        (label.clone(), outcome.count as f64, colour.colour().light)
    });
    let bars = BarPlot::new()
        .with_colored_bars(bars)
        .with_horizontal(true)
        .with_width(0.6);
    let x = Axis {
        name: "datagrams",
        scale: Scale::Even,
        range: even(outcomes.iter().map(|outcome| outcome.count as f64)),
        tick: units::count,
    };
    let rows = outcomes.len() as f64;
    let y = Axis {
        name: "",
        scale: Scale::Even,
        range: (0.5, rows + 0.5),
        tick: units::count,
    };
    let mut layout = sheet(&x, &y)
        .with_y_categories(labels)
        .with_force_margins(LEFT, 28.0)
        .with_height(100.0 + rows * ROW_HEIGHT);
    layout.y_label = None;
    let caption = Caption {
        name: "fates",
        title: format!(
            "Fates of {} datagrams: {} answered ({})",
            units::whole(sent),
            units::whole(answered),
            share(answered)
        ),
        description: said(outcomes),
    };
    Some(Svg::draw(caption, &[], vec![bars.into()], layout))
}

fn said(outcomes: &[OutcomeCount]) -> String {
    let told = outcomes
        .iter()
        .map(|outcome| format!("{} {}", outcome.name, units::whole(outcome.count)));
    let told: Vec<_> = told.collect();
    format!("{}.", told.join(", "))
}
