//! What `--as` selects: a service of this process, or one behind NATS.

use std::{process, str::FromStr, sync::Arc, time::Duration};

use echoic_core::service::Service;
use echoic_nats::{NatsUrl, NatsUrlError, RemoteService};
use echoic_service::NamedService;

/// The service of an endpoint.
#[derive(Clone, Debug)]
pub(crate) enum ServiceChoice {
    /// One of this process.
    Local(NamedService),
    /// One that workers have: `nats://HOST:PORT/SUBJECT`.
    Remote(NatsUrl),
}

impl FromStr for ServiceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("nats:") {
            return parse_subject(text).map(Self::Remote);
        }
        let service = text.parse::<NamedService>();
        service.map(Self::Local).map_err(|error| error.to_string())
    }
}

/// Parses the URL of a subject, which has no replicas: nothing is kept there.
pub(crate) fn parse_subject(text: &str) -> Result<NatsUrl, String> {
    let url: NatsUrl = text
        .parse()
        .map_err(|error: NatsUrlError| error.to_string())?;
    match url.replicas() {
        None => Ok(url),
        Some(_) => Err("invalid NATS URL: ?replicas is for the URL of a --store".to_owned()),
    }
}

/// The services behind NATS, one for each URL. They are connected when the server starts.
#[derive(Debug)]
pub(crate) struct RemoteServices {
    services: Vec<Arc<RemoteService>>,
    timeout: Duration,
}

impl RemoteServices {
    /// Creates none. A run that no worker answers within `timeout` ends its conversation.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            services: Vec::new(),
            timeout,
        }
    }

    /// Returns the chosen service, the same for the same URL.
    pub(crate) fn service(&mut self, choice: &ServiceChoice) -> Arc<dyn Service> {
        let url = match choice {
            ServiceChoice::Local(NamedService(service)) => return Arc::clone(service),
            ServiceChoice::Remote(url) => url,
        };
        if let Some(known) = self.services.iter().find(|known| known.url() == url) {
            return Arc::<RemoteService>::clone(known);
        }
        let new = Arc::new(RemoteService::new(url.clone(), self.timeout));
        self.services.push(Arc::clone(&new));
        new
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &RemoteService> {
        self.services.iter().map(|service| &**service)
    }
}

/// What NATS lists a connection of this process as.
pub(crate) fn client_name(command: &str) -> String {
    format!("echoic {command} (pid {})", process::id())
}
