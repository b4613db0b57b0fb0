//! Metrics for Prometheus.
//!
//! All come from counters that are made elsewhere: the recorder's, by endpoint at each commit, those of the server, and those of the
//! store. Labels are bounded: endpoint, service, outcome, direction and the class of an end; never a peer.

use std::{collections::BTreeMap, fmt, sync::Arc};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use echoic_core::{
    control::{EndpointStatus, ServerCounts},
    store::Stats,
};
use echoic_recorder::{EndpointCounts, LATENCY_BOUNDS_NS, RecorderStatus};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use crate::{problem::Problem, state::App, watched::Watched};

/// Figures of a server or a record at one time.
#[derive(Debug)]
pub(crate) struct Figures {
    version: &'static str,
    /// `None` if this process does not own the record.
    recorder: Option<(RecorderStatus, Vec<EndpointCounts>)>,
    /// `None` if this process runs no server.
    server: Option<(ServerCounts, Vec<EndpointStatus>)>,
    store: Option<Stats>,
    /// `None` without a console.
    streams: Option<u64>,
}

impl Figures {
    /// Reads the figures of now.
    pub(crate) async fn read(
        version: &'static str,
        watched: Watched<'_>,
        streams: Option<u64>,
    ) -> Self {
        let Watched {
            store,
            recorder,
            control,
        } = watched;
        Self {
            version,
            recorder: recorder.map(|recorder| (recorder.status(), recorder.endpoint_counts())),
            server: control.map(|control| (control.counts(), control.endpoints())),
            store: match store {
                Some(store) => store.stats().await.ok(),
                None => None,
            },
            streams,
        }
    }
}

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "figures", responses(
    (status = 200, description = "text of OpenMetrics", content_type = "application/openmetrics-text", body = String)))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let streams = Some(app.hub.subscribers());
    let figures = Figures::read(app.config.version, Watched::of(&app), streams).await;
    Ok(answer(text(figures)?))
}

/// Returns the text of figures.
pub(crate) fn text(figures: impl Collector) -> Result<String, Problem> {
    let mut registry = Registry::with_prefix("echoic");
    registry.register_collector(Box::new(figures));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(Problem::internal)?;
    Ok(text)
}

/// Returns the answer with this text.
pub(crate) fn answer(text: String) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        encode_version(encoder, self.version)?;
        if let Some(streams) = self.streams {
            let help = "Open streams of live events.";
            gauge(encoder, "console_streams", help, None, streams)?;
        }
        if let Some(stats) = &self.store {
            gauge(
                encoder,
                "store_size",
                "Bytes that the store uses.",
                Some(&Unit::Bytes),
                stats.bytes,
            )?;
            gauge(
                encoder,
                "store_exchanges",
                "Exchanges in the store.",
                None,
                stats.exchanges,
            )?;
        }
        if let Some((status, endpoints)) = &self.recorder {
            encode_recorder(encoder, status)?;
            encode_exchanges(encoder, endpoints)?;
            encode_latencies(encoder, endpoints)?;
            encode_ended(encoder, endpoints)?;
        }
        if let Some((counts, endpoints)) = &self.server {
            encode_server(encoder, counts, endpoints)?;
        }
        Ok(())
    }
}

/// Writes the version of the program.
pub(crate) fn encode_version(
    encoder: &mut DescriptorEncoder<'_>,
    version: &'static str,
) -> fmt::Result {
    encoder
        .encode_descriptor("build", "The version of echoic.", None, MetricType::Info)?
        .encode_info(&[("version", version)])
}

fn encode_recorder(encoder: &mut DescriptorEncoder<'_>, status: &RecorderStatus) -> fmt::Result {
    let help = "Exchanges committed to the store.";
    counter(encoder, "exchanges_recorded", help, status.recorded)?;
    let help = "Exchanges served that will never be in the store.";
    counter(encoder, "store_dropped", help, status.lost)?;
    let help = "Exchanges served that are neither committed nor lost.";
    gauge(encoder, "store_queue_depth", help, None, status.waiting)?;
    let help = "1 while the store fails, else 0.";
    let is_failing = u64::from(status.failure.is_some());
    gauge(encoder, "store_failing", help, None, is_failing)
}

fn encode_exchanges(
    encoder: &mut DescriptorEncoder<'_>,
    endpoints: &[EndpointCounts],
) -> fmt::Result {
    let help = "Exchanges committed to the store, by the outcome that was known then.";
    let mut metric = encoder.encode_descriptor("exchanges", help, None, MetricType::Counter)?;
    for counts in endpoints {
        let [endpoint, service] = names(counts);
        for (outcome, exchanges) in counts.exchanges {
            let outcome = outcome.word();
            let labels: Labels<'_, 3> = [endpoint, service, ("outcome", outcome)];
            ConstCounter::new(exchanges).encode(metric.encode_family(&labels)?)?;
        }
    }
    let help = "Bytes of messages that were received and sent.";
    let mut metric = encoder.encode_descriptor("bytes", help, None, MetricType::Counter)?;
    for counts in endpoints {
        let [endpoint, service] = names(counts);
        for (direction, bytes) in [("received", counts.received), ("sent", counts.sent)] {
            let labels: Labels<'_, 3> = [endpoint, service, ("direction", direction)];
            ConstCounter::new(bytes).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_latencies(
    encoder: &mut DescriptorEncoder<'_>,
    endpoints: &[EndpointCounts],
) -> fmt::Result {
    let help = "Time from the read that completed a request to the write of its reply.";
    let unit = Some(&Unit::Seconds);
    let mut metric =
        encoder.encode_descriptor("exchange_duration", help, unit, MetricType::Histogram)?;
    let bounds = LATENCY_BOUNDS_NS.iter().map(|bound| *bound as f64 / 1e9);
    let bounds: Vec<f64> = bounds.chain([f64::MAX]).collect();
    for counts in endpoints {
        let buckets: Vec<_> = bounds.iter().copied().zip(counts.latencies).collect();
        let sum = counts.latency_sum_ns as f64 / 1e9;
        let labels: Labels<'_, 2> = names(counts);
        let count = counts.latencies.iter().sum();
        let mut family = metric.encode_family(&labels)?;
        family.encode_histogram::<Labels<'_, 0>>(sum, count, &buckets, None)?;
    }
    Ok(())
}

fn encode_ended(encoder: &mut DescriptorEncoder<'_>, endpoints: &[EndpointCounts]) -> fmt::Result {
    let help = "Conversations that have ended, by the class of their close reason.";
    let mut metric = encoder.encode_descriptor("connections", help, None, MetricType::Counter)?;
    for counts in endpoints {
        let [endpoint, service] = names(counts);
        for (end, ended) in &counts.ended {
            let labels: Labels<'_, 3> = [endpoint, service, ("end", end)];
            ConstCounter::new(*ended).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_server(
    encoder: &mut DescriptorEncoder<'_>,
    counts: &ServerCounts,
    endpoints: &[EndpointStatus],
) -> fmt::Result {
    counter(
        encoder,
        "exchanges_served",
        "Exchanges served.",
        counts.served,
    )?;
    // Endpoints on several addresses can have the same names.
    let mut by_names: BTreeMap<(&str, &str), [u64; 3]> = BTreeMap::new();
    for status in endpoints {
        let names = (status.info.name.as_str(), status.info.service.as_str());
        let sums = by_names.entry(names).or_default();
        for (sum, value) in sums
            .iter_mut()
            .zip([status.open, status.accepted, status.rejected])
        {
            *sum += value;
        }
    }
    let metrics = [
        (
            "connections_active",
            "Conversations that are open.",
            MetricType::Gauge,
        ),
        (
            "connections_accepted",
            "Conversations accepted, without rejected ones.",
            MetricType::Counter,
        ),
        (
            "connections_rejected",
            "Connections rejected because of a limit or an access list.",
            MetricType::Counter,
        ),
    ];
    for (n, (name, help, kind)) in metrics.into_iter().enumerate() {
        let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
        for ((endpoint, service), values) in &by_names {
            let labels: Labels<'_, 2> = [("endpoint", endpoint), ("service", service)];
            let family = metric.encode_family(&labels)?;
            match n {
                0 => ConstGauge::new(values[n]).encode(family)?,
                _ => ConstCounter::new(values[n]).encode(family)?,
            }
        }
    }
    Ok(())
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(metric)
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: u64,
) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

/// Returns the labels of an endpoint. They are empty for conversations whose opening was not counted.
fn names(counts: &EndpointCounts) -> Labels<'_, 2> {
    let info = counts.endpoint_info.as_deref();
    let name = info.map_or("", |info| info.name.as_str());
    let service = info.map_or("", |info| info.service.as_str());
    [("endpoint", name), ("service", service)]
}
