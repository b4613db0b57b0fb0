//! The stream of JetStream that carries batches from servers to keepers, and the one that numbers conversations.

use std::time::Duration;

use async_nats::jetstream::{
    Context, ContextBuilder,
    consumer::{self, AckPolicy, PullConsumer},
    context::CreateStreamErrorKind,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream},
};
use echoic_core::event::{BatchId, ServerId};

use crate::{Connection, NatsError, NatsErrorKind};

/// Lanes of a stream. The batches of a server are in one lane, where one message is with a keeper at a time: so they are
/// written in order, while keepers work at several lanes.
pub(crate) const LANES: u64 = 8;

/// Bytes that the stream may hold: what servers record while no keeper writes. Then it takes no more.
const STREAM_BYTES_MAX: i64 = 1 << 30;

/// Bytes that a stream must be able to hold: some batches, of which one has up to half a megabyte and a message with its reply.
const STREAM_BYTES_MIN: i64 = 8 << 20;

/// Time in which a message with the id of an earlier one is dropped by JetStream. Later ones are dropped by the store.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);

/// Time for a keeper to acknowledge a message, or to say that it works on it; then another keeper gets it.
const ACK_WAIT: Duration = Duration::from_secs(10);

/// Time for JetStream to answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// JetStream's codes of errors (its `errors.json`).
const NAME_IN_USE: u64 = 10058;
const NOT_ENABLED: [u64; 2] = [10076, 10039];

/// Too little is free of: any resource, memory, files. A stream reserves its size when it is created.
const OUT_OF_RESOURCES: [u64; 3] = [10023, 10028, 10047];

/// There are too few nodes for the replicas: no cluster at all, or one that is too small or has no node with JetStream free.
const TOO_FEW_NODES: [u64; 2] = [10074, 10005];

/// Names in the streams of a record.
#[derive(Clone, Debug)]
pub(crate) struct Names(String);

impl Names {
    /// Names of the stream with this name.
    pub(crate) fn of(stream: &str) -> Self {
        Self(stream.to_owned())
    }

    /// All lanes.
    pub(crate) fn all_batches(&self) -> String {
        format!("echoic.{}.batches.*", self.0)
    }

    pub(crate) fn batches(&self, server: ServerId) -> String {
        let lane = server.0 % LANES;
        format!("echoic.{}.batches.{lane}", self.0)
    }

    fn lane(&self, lane: u64) -> String {
        format!("echoic.{}.batches.{lane}", self.0)
    }

    /// Subject of the parts of a batch that is longer than a payload.
    pub(crate) fn parts(&self, batch: BatchId) -> String {
        let BatchId { server, number } = batch;
        format!("echoic.{}.parts.{server}.{number}", self.0)
    }

    /// Subject of what no keeper can read.
    pub(crate) fn unreadable(&self) -> String {
        format!("echoic.{}.unreadable", self.0)
    }

    /// Subject at which a server answers while it lives.
    pub(crate) fn alive(&self, server: ServerId) -> String {
        format!("echoic.{}.alive.{server}", self.0)
    }

    pub(crate) fn conversations(&self) -> String {
        format!("echoic.{}.conversations", self.0)
    }

    fn subjects(&self) -> Vec<String> {
        ["batches.*", "parts.>", "unreadable"]
            .map(|rest| format!("echoic.{}.{rest}", self.0))
            .to_vec()
    }
}

/// The streams of a record.
#[derive(Clone, Debug)]
pub(crate) struct RecordStream {
    pub(crate) connection: Connection,
    pub(crate) context: Context,
    pub(crate) names: Names,
    pub(crate) batches: Stream,
}

impl RecordStream {
    /// Opens the stream of the connection's URL; whoever comes first creates it. One with other settings is refused.
    pub(crate) async fn open(connection: &Connection) -> Result<Self, NatsError> {
        let url = connection.url();
        if url.name().contains('.') {
            let why = "the name of a stream has no dots".to_owned();
            return Err(NatsError::new(url, NatsErrorKind::Unusable(why)));
        }
        let context = ContextBuilder::new()
            .timeout(ANSWER_TIMEOUT)
            .ack_timeout(ANSWER_TIMEOUT)
            .build(connection.client.clone());
        let names = Names::of(url.name());
        let config = Config {
            name: url.name().to_owned(),
            subjects: names.subjects(),
            // What is acknowledged is removed, and nothing else ever is.
            retention: RetentionPolicy::WorkQueue,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            max_bytes: STREAM_BYTES_MAX,
            max_messages: -1,
            max_messages_per_subject: -1,
            max_message_size: -1,
            max_consumers: -1,
            num_replicas: url.replicas().unwrap_or(1),
            duplicate_window: DUPLICATE_WINDOW,
            description: Some("batches of events of echoic, from servers to keepers".to_owned()),
            ..Config::default()
        };
        let batches = open_stream(connection, &context, config).await?;
        Ok(Self {
            connection: connection.clone(),
            context,
            names,
            batches,
        })
    }

    /// Bytes that the stream may hold, as of when it was opened.
    pub(crate) fn bytes_max(&self) -> usize {
        let most = self.batches.cached_info().config.max_bytes;
        usize::try_from(most)
            .ok()
            .filter(|most| *most > 0)
            .unwrap_or(usize::MAX)
    }

    /// Opens the stream whose messages number the blocks of conversation ids.
    pub(crate) async fn conversations(&self) -> Result<Stream, NatsError> {
        let config = Config {
            name: format!("{}-conversations", self.connection.url().name()),
            subjects: vec![self.names.conversations()],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            storage: StorageType::File,
            max_bytes: -1,
            max_messages: 1,
            max_messages_per_subject: -1,
            max_message_size: -1,
            max_consumers: -1,
            num_replicas: self.connection.url().replicas().unwrap_or(1),
            duplicate_window: DUPLICATE_WINDOW,
            description: Some("its sequence numbers blocks of conversation ids".to_owned()),
            ..Config::default()
        };
        open_stream(&self.connection, &self.context, config).await
    }

    /// Whether all batches of a server that the stream holds are written.
    pub(crate) async fn is_written(&self, server: ServerId) -> Result<bool, NatsError> {
        let mut consumer = self.lane(server.0 % LANES).await?;
        let info = consumer.info().await;
        let info = info.map_err(|error| NatsError::failed(self.connection.url(), &error))?;
        Ok(info.num_pending == 0 && info.num_ack_pending == 0)
    }

    /// Opens the consumer of a lane, which all keepers share.
    pub(crate) async fn lane(&self, lane: u64) -> Result<PullConsumer, NatsError> {
        let name = lane_consumer(lane);
        let config = consumer::pull::Config {
            durable_name: Some(name.clone()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            // One at a time, so that a batch comes after those before it, also when a keeper dies.
            max_ack_pending: 1,
            filter_subject: self.names.lane(lane),
            ..consumer::pull::Config::default()
        };
        let opened = self.batches.get_or_create_consumer(&name, config).await;
        opened.map_err(|error| NatsError::failed(self.connection.url(), &error))
    }
}

/// Returns the name of the consumer of a lane.
pub(crate) fn lane_consumer(lane: u64) -> String {
    format!("keep-{lane}")
}

async fn open_stream(
    connection: &Connection,
    context: &Context,
    config: Config,
) -> Result<Stream, NatsError> {
    let url = connection.url();
    let error = |kind| NatsError::new(url, kind);
    let created = context.create_stream(config.clone()).await;
    let created = created.map_err(|error| error.kind());
    match created {
        Ok(stream) => return Ok(stream),
        Err(CreateStreamErrorKind::JetStream(why)) if why.error_code().0 == NAME_IN_USE => {}
        Err(CreateStreamErrorKind::JetStreamUnavailable) => {
            return Err(error(NatsErrorKind::NoJetStream));
        }
        Err(CreateStreamErrorKind::JetStream(why)) if NOT_ENABLED.contains(&why.error_code().0) => {
            return Err(error(NatsErrorKind::NoJetStream));
        }
        // Storage is checked before the name: the stream may be there, and smaller.
        Err(CreateStreamErrorKind::JetStream(why))
            if OUT_OF_RESOURCES.contains(&why.error_code().0) =>
        {
            if context.get_stream(&config.name).await.is_err() {
                return Err(error(NatsErrorKind::NoStorage { name: config.name }));
            }
        }
        Err(CreateStreamErrorKind::JetStream(why))
            if TOO_FEW_NODES.contains(&why.error_code().0) =>
        {
            let replicas = config.num_replicas;
            let name = config.name;
            return Err(error(NatsErrorKind::TooFewNodes { name, replicas }));
        }
        Err(CreateStreamErrorKind::TimedOut) => return Err(error(NatsErrorKind::TimedOut)),
        Err(other) => return Err(NatsError::failed(url, &other)),
    }
    let found = context.get_stream(&config.name).await;
    let found = found.map_err(|error| NatsError::failed(url, &error))?;
    let settings = &found.cached_info().config;
    let difference = difference(settings, &config).or_else(|| {
        let asked = url.replicas().unwrap_or(1);
        let has = settings.num_replicas;
        let fewer = has < asked;
        fewer.then(|| format!("its num_replicas is {has}: expected {asked}, as the URL says"))
    });
    let difference = difference.or_else(|| too_small(settings, &config));
    match difference {
        None => Ok(found),
        Some(why) => Err(error(NatsErrorKind::OtherStream {
            name: config.name,
            why,
        })),
    }
}

/// Returns the size of a stream that is too small for batches: what does not fit is never recorded.
fn too_small(found: &Config, expected: &Config) -> Option<String> {
    let (has, is_for_batches) = (found.max_bytes, expected.max_bytes > 0);
    let is_small = is_for_batches && has > 0 && has < STREAM_BYTES_MIN;
    is_small.then(|| {
        format!("its max_bytes is {has}: expected at least {STREAM_BYTES_MIN}, for some batches")
    })
}

/// Returns the first setting in which a stream is not as expected. Its size is the administrator's, and so
/// are its replicas unless the URL asks for more.
fn difference(found: &Config, expected: &Config) -> Option<String> {
    let subjects = |config: &Config| {
        let mut subjects = config.subjects.clone();
        subjects.sort();
        subjects.join(" ")
    };
    let mut settings = vec![
        ("subjects", subjects(found), subjects(expected)),
        (
            "retention",
            format!("{:?}", found.retention),
            format!("{:?}", expected.retention),
        ),
        (
            "discard",
            format!("{:?}", found.discard),
            format!("{:?}", expected.discard),
        ),
        (
            "storage",
            format!("{:?}", found.storage),
            format!("{:?}", expected.storage),
        ),
        (
            "max_age",
            format!("{:?}", found.max_age),
            format!("{:?}", expected.max_age),
        ),
        (
            "max_msgs",
            found.max_messages.to_string(),
            expected.max_messages.to_string(),
        ),
        (
            "no_ack",
            found.no_ack.to_string(),
            expected.no_ack.to_string(),
        ),
    ];
    settings.retain(|(_, found, expected)| found != expected);
    let (name, found, expected) = settings.first()?;
    Some(format!("its {name} is {found}: expected {expected}"))
}
