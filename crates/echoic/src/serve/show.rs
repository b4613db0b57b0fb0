//! What a serve shows: pretty on a terminal, lines of JSON in a pipe.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use echoic_core::{
    endpoint::{Endpoint, Host},
    event::{Batch, ConversationId, Ended, Event, Mark, Marked, Opened, Place as At, Post},
    exchange::{Conversation, Exchange, exchanges},
    framing::{Frames, Framing},
};
use echoic_server::{Listening, Opening, Seen, Standing, Watcher};
use serde::Serialize;
use tokio::runtime::Handle;

use super::plan::Plan;
use crate::{
    pretty,
    store_url::StoreUrl,
    term::{self, ASIDE, Payload, ReaderGone, tame},
};

/// Lines a second that a person is shown; the rest are counted. Recording is never sampled, and JSON is not either.
const PRETTY_PER_SECOND: u32 = 20;

/// Version of the events printed as JSON.
const VERSION: u32 = 1;

/// Says what is open, once it is.
pub(super) fn announce(plan: &Plan, doors: &[Listening]) {
    let longest =
        |cell: fn(&Listening) -> usize, least| doors.iter().map(cell).max().unwrap_or(0).max(least);
    let at_width = longest(|door| tame(door.place.url(door.post.proto)).len(), 22);
    let service_width = longest(|door| door.post.service.len(), 8);
    let messages_width = longest(|door| door.post.messages().len(), 8);
    for Listening { place, post } in doors {
        let at = tame(place.url(post.proto));
        term::say_in_colour(&format!(
            "listening on {at:<at_width$} {:<service_width$} {:<messages_width$} {ASIDE}try: echoic connect {}{ASIDE:#}",
            post.service,
            post.messages(),
            call(place, post)
        ));
    }
    for Opening { endpoint, .. } in &plan.openings {
        let (Endpoint::Tcp(at) | Endpoint::Udp(at)) = endpoint else {
            continue;
        };
        let meant = |door: &&Listening| {
            door.post.proto == endpoint.scheme()
                && (at.port == 0 || door.place.port() == Some(at.port))
        };
        let families = doors.iter().filter(meant).count();
        if matches!(at.host, Host::Loopback | Host::Any) && families == 1 {
            term::say(&format!(
                "{endpoint}: this machine has only one address family, so it is open in that one"
            ));
        }
    }
    match &plan.store {
        StoreUrl::Sqlite(path) => term::say(&format!(
            "recording in {} (durability {}, keeping {})",
            path.display(),
            plan.durability,
            plan.keep_text
        )),
        StoreUrl::Memory => term::say("recording in memory: gone when this process ends"),
        StoreUrl::None => term::say("recording nothing"),
    }
}

/// What to type after `echoic connect` to talk to it, at a prompt.
fn call(place: &At, post: &Post) -> String {
    let target = match place {
        At::Net(addr) if addr.ip().is_loopback() && post.proto == "tcp" => {
            format!(":{}", addr.port())
        }
        // Where everybody is listened to, we are too; as an address to call, it is none.
        At::Net(addr) if addr.ip().is_unspecified() && post.proto == "tcp" => {
            format!(":{}", addr.port())
        }
        At::Net(addr) if addr.ip().is_unspecified() => {
            format!("{}://:{}", post.proto, addr.port())
        }
        _ => shell_word(&tame(place.url(post.proto))),
    };
    // A prompt says lines, and shows what comes as it comes: that is right for both.
    let prompts = [Framing::Line, Framing::Chunk];
    let Frames { heard, said } = post.framing;
    if heard == said && prompts.contains(&heard) {
        return target;
    }
    // What is said here is heard there.
    let frames = Frames {
        heard: said,
        said: heard,
    };
    format!("{target} --frame {frames}")
}

/// As it can be typed: a shell takes brackets for a pattern.
fn shell_word(text: &str) -> String {
    if text.contains(|c: char| !(c.is_alphanumeric() || "/:@.-_".contains(c))) {
        format!("'{text}'")
    } else {
        text.to_owned()
    }
}

/// Prints events as they are recorded.
pub(super) struct Show {
    payload: Payload,
    quiet: bool,
    printed: Arc<AtomicU64>,
    /// Conversations that are open, as later events need to know them.
    open: HashMap<ConversationId, Arc<Conversation>>,
    second: Instant,
    lines: u32,
}

#[derive(Serialize)]
#[serde(tag = "ev", rename_all = "lowercase")]
enum Line<'a> {
    Listening {
        v: u32,
        ep: &'a str,
        addr: String,
        svc: &'a str,
        frame: String,
    },
    Open {
        v: u32,
        conv: u64,
        ep: &'a str,
        svc: &'a str,
        peer: String,
        t_us: i64,
    },
    Exchange {
        v: u32,
        #[serde(flatten)]
        exchange: &'a Exchange,
    },
    End {
        v: u32,
        conv: u64,
        end: &'a str,
        how: &'a str,
        received: u64,
        sent: u64,
        unsent: u64,
        unheard: u64,
        t_us: i64,
    },
    Gap {
        v: u32,
        n: u64,
    },
    Dropped {
        v: u32,
        n: u64,
        t_us: i64,
    },
    /// Nothing is being recorded.
    Failing {
        v: u32,
        why: &'a str,
        since_us: i64,
        /// Exchanges since then that are not kept.
        n: u64,
    },
    /// It is again.
    Recording {
        v: u32,
        /// Exchanges that are lost, since the start.
        lost: u64,
    },
}

impl Show {
    /// `printed` counts the batches that have been printed.
    pub(super) fn new(json: bool, quiet: bool, printed: Arc<AtomicU64>) -> Self {
        let payload = Payload::new(json);
        Self {
            payload,
            quiet,
            printed,
            open: HashMap::new(),
            second: Instant::now(),
            lines: 0,
        }
    }

    /// Prints until nothing more comes or nobody reads any more.
    pub(super) fn run(
        &mut self,
        runtime: &Handle,
        doors: &[Listening],
        addresses: bool,
        watcher: Option<Watcher>,
    ) -> Result<(), ReaderGone> {
        if addresses {
            let mut said: Option<&Listening> = None;
            for door in doors {
                // One line an endpoint, also where it is open in two families.
                if said.is_none_or(|last| !Arc::ptr_eq(&last.post, &door.post)) {
                    // An address alone, as scripts want it; the others say what they are.
                    let place = match &door.place {
                        At::Net(addr) => addr.to_string(),
                        unix @ At::Unix(_) => unix.url(door.post.proto),
                    };
                    self.payload.line(format_args!("{place}"))?;
                }
                said = Some(door);
            }
        }
        if !self.quiet && !self.payload.pretty {
            for Listening { place, post } in doors {
                let frame = post.messages();
                self.payload.json(&Line::Listening {
                    v: VERSION,
                    ep: &post.name,
                    addr: place.to_string(),
                    svc: &post.service,
                    frame,
                })?;
            }
        }
        self.payload.flush()?;
        let Some(mut watcher) = watcher else {
            return Ok(());
        };
        while let Some(seen) = runtime.block_on(watcher.next()) {
            match seen {
                Seen::Batch(batch) => self.batch(&batch)?,
                Seen::Gap(n) if self.payload.pretty => {
                    self.payload
                        .line(format_args!("{ASIDE}… {n} more, too many to show{ASIDE:#}"))?;
                }
                Seen::Gap(n) => self.payload.json(&Line::Gap { v: VERSION, n })?,
                // A person is told on standard error, also one who wants to see no events.
                Seen::Standing(_) if self.payload.pretty => {}
                Seen::Standing(standing) => self.standing(&standing)?,
            }
            self.payload.flush()?;
            self.printed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn batch(&mut self, batch: &Batch) -> Result<(), ReaderGone> {
        for event in &batch.events {
            match event {
                Event::Opened(opened) => self.opened(opened)?,
                Event::Run(run) => {
                    let Some(conversation) = self.open.get(&run.conversation).cloned() else {
                        continue;
                    };
                    for exchange in exchanges(run, batch, &conversation) {
                        if self.payload.pretty {
                            self.sampled(&|| pretty::line(&exchange))?;
                        } else {
                            self.payload.json(&Line::Exchange {
                                v: VERSION,
                                exchange: &exchange,
                            })?;
                        }
                    }
                }
                Event::Mark(Mark {
                    at,
                    what: Marked::Dropped { datagrams },
                    ..
                }) if !self.payload.pretty => self.payload.json(&Line::Dropped {
                    v: VERSION,
                    n: *datagrams,
                    t_us: *at,
                })?,
                Event::Mark(_) => {}
                Event::Ended(ended) => self.ended(ended)?,
            }
        }
        Ok(())
    }

    fn standing(&mut self, standing: &Standing) -> Result<(), ReaderGone> {
        let line = match &standing.failure {
            Some(failure) => Line::Failing {
                v: VERSION,
                why: &failure.why,
                since_us: failure.since,
                n: failure.exchanges,
            },
            None => Line::Recording {
                v: VERSION,
                lost: standing.lost,
            },
        };
        self.payload.json(&line)
    }

    fn opened(&mut self, opened: &Opened) -> Result<(), ReaderGone> {
        let Opened {
            conversation: id,
            at,
            remote,
            local,
            post,
        } = opened.clone();
        let conversation = Arc::new(Conversation {
            id,
            opened: at,
            remote,
            local,
            post,
            half_closed: None,
            ended: None,
        });
        self.open.insert(id, Arc::clone(&conversation));
        if self.payload.pretty {
            return self.sampled(&|| pretty::opened(&conversation));
        }
        let Conversation { post, remote, .. } = &*conversation;
        let peer = remote.to_string();
        self.payload.json(&Line::Open {
            v: VERSION,
            conv: id,
            ep: &post.name,
            svc: &post.service,
            peer,
            t_us: at,
        })
    }

    fn ended(&mut self, ended: &Ended) -> Result<(), ReaderGone> {
        let Some(conversation) = self.open.remove(&ended.conversation) else {
            return Ok(());
        };
        let (at, ending) = (ended.at, ended.ending.clone());
        if self.payload.pretty {
            let conversation = Conversation {
                ended: Some((at, ending)),
                ..(*conversation).clone()
            };
            return self.sampled(&|| pretty::ended(&conversation));
        }
        self.payload.json(&Line::End {
            v: VERSION,
            conv: ended.conversation,
            end: ending.how.class(),
            how: ending.how.word(),
            received: ending.received,
            sent: ending.sent,
            unsent: ending.unsent,
            unheard: ending.unheard,
            t_us: at,
        })
    }

    /// A line for a person, unless there have been enough this second.
    fn sampled(&mut self, line: &dyn Fn() -> String) -> Result<(), ReaderGone> {
        if self.second.elapsed() >= Duration::from_secs(1) {
            if self.lines > PRETTY_PER_SECOND {
                let more = self.lines - PRETTY_PER_SECOND;
                self.payload
                    .line(format_args!("{ASIDE}… {more} more in that second{ASIDE:#}"))?;
            }
            self.second = Instant::now();
            self.lines = 0;
        }
        self.lines += 1;
        if self.lines > PRETTY_PER_SECOND {
            Ok(())
        } else {
            self.payload.line(format_args!("{}", line()))
        }
    }
}
