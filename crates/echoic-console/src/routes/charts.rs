//! Charts, drawn as SVG for the page's style sheet.

use std::sync::Arc;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use echoic_core::store::Latencies;
use echoic_plot::numbers::{self, Chart, ExchangeStep, Frame, LatencyStep, OpenStep, Quantile};
use echoic_recorder::wall_clock_now;

use super::stats::{Sum, by_step, total};
use crate::{
    extract::{Path, Query},
    params::{self, OfChart},
    problem::Problem,
    series::{Range, largest},
    state::App,
};

/// A chart, as SVG with the classes of the console's style sheet
#[utoipa::path(get, path = "/api/v1/charts/{chart}", tag = "figures",
    params(("chart" = String, Path, description = "`exchanges.svg`, `latency.svg`, `conversations.svg` or `percentiles.svg`"), OfChart),
    extensions(("x-example" = json!("GET /api/v1/charts/latency.svg?width=600&height=200"))), responses(
        (status = 200, description = "the chart", content_type = "image/svg+xml", body = String),
        (status = 400, description = "a mistake in the filter, the times or the size", body = Problem),
        (status = 404, description = "no such chart", body = Problem),
        (status = 503, description = "the record is long, and not counted yet: ask again", body = Problem)))]
pub(super) async fn chart(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(parameters): Query<OfChart>,
) -> Result<Response, Problem> {
    let range = parameters.range()?;
    let frame = frame(&parameters, &range)?;
    let chart = match name.as_str() {
        "conversations.svg" => {
            let (steps, _) = app.series.conversations(&*app.store, &range).await?;
            let steps = steps.iter().map(|step| {
                step.map(|step| OpenStep {
                    open: step.open,
                    opened: step.opened,
                    ended: step.ended,
                    reset: step.reset,
                })
            });
            numbers::conversations(&frame, &steps.collect::<Vec<_>>())
        }
        "exchanges.svg" | "latency.svg" | "percentiles.svg" => {
            let series = app
                .series
                .series(&*app.store, &range, params::until())
                .await?;
            match name.as_str() {
                "exchanges.svg" => exchanges(&frame, &by_step(&series, &range)),
                "latency.svg" => latency(&frame, &by_step(&series, &range)),
                _ => percentiles(&frame, &total(&series)),
            }
        }
        _ => {
            return Err(Problem::not_found(
                "there is no such chart: expected exchanges.svg, latency.svg, conversations.svg or percentiles.svg",
            ));
        }
    };
    let kind = [(header::CONTENT_TYPE, "image/svg+xml")];
    Ok((kind, chart.to_string()).into_response())
}

fn frame(parameters: &OfChart, range: &Range) -> Result<Frame, Problem> {
    let (width, height) = (
        parameters.width.unwrap_or(600),
        parameters.height.unwrap_or(180),
    );
    let offset = parameters.offset.unwrap_or(0);
    if !(160..=4000).contains(&width) || !(80..=2000).contains(&height) {
        return Err(Problem::invalid(
            "invalid size: expected a width of 160 to 4000 and a height of 80 to 2000 pixels",
        ));
    }
    if !(-1440..=1440).contains(&offset) {
        return Err(Problem::invalid(
            "invalid offset: expected -1440 to 1440 minutes",
        ));
    }
    Ok(Frame {
        width,
        height,
        from_us: range.from,
        step_us: range.step,
        steps: range.steps(),
        now_us: wall_clock_now(),
        offset_s: offset * 60,
    })
}

fn exchanges(frame: &Frame, sums: &[Sum]) -> Chart {
    let steps = sums.iter().map(|sum| ExchangeStep {
        exchanges: sum.exchanges,
        failed: sum.failed(),
    });
    numbers::exchanges(frame, &steps.collect::<Vec<_>>())
}

fn latency(frame: &Frame, sums: &[Sum]) -> Chart {
    let steps = sums.iter().map(|sum| LatencyStep {
        counts: sum.latencies.buckets().collect(),
        p50_ns: sum.latencies.quantile(0.5),
        p99_ns: sum.latencies.quantile(0.99),
    });
    numbers::latency(frame, &steps.collect::<Vec<_>>())
}

fn percentiles(frame: &Frame, sum: &Sum) -> Chart {
    let quantiles = quantiles(&sum.latencies);
    numbers::percentiles(frame, sum.exchanges, &quantiles)
}

/// Returns quantiles that are close enough for a curve, as far as the number of exchanges supports them.
fn quantiles(latencies: &Latencies) -> Vec<Quantile> {
    let count = latencies.count() as f64;
    // Ten points for each nine.
    let parts = (0..=60).map(|tenth| 1.0 - 10_f64.powf(-f64::from(tenth) / 10.0));
    let mut parts: Vec<f64> = parts
        .take_while(|part| 1.0 / (1.0 - part) <= count)
        .collect();
    parts.push(0.5);
    parts.sort_by(f64::total_cmp);
    let found = parts.iter().filter_map(|part| {
        let ns = latencies.quantile(*part)?;
        Some(Quantile { part: *part, ns })
    });
    let mut found: Vec<_> = found.collect();
    if let (Some(last), Some(max)) = (found.last().copied(), largest(latencies)) {
        let part = 1.0 - (1.0 - last.part) / 2.0;
        found.push(Quantile {
            part,
            ns: max.max(last.ns),
        });
    }
    found
}
