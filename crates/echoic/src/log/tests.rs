//! Listing and following a record that grows between any two queries: no exchange is printed twice, and none is left out.

use std::{
    io::{self, Write},
    ops::{Range, RangeInclusive},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use echoic_core::{
    event::{
        Address, Batch, ConversationId, EndpointInfo, Event, Mark, Opened, Outcome, Protocol, Role,
        RunMeta,
    },
    framing::Framing,
    service::BoxFuture,
    store::{
        FoundConversations, Gap, LabelChange, Last, ListedConversation, Retention, Series, Stats,
        StoreError, TagCount,
    },
};
use serde_json::Value;

use super::*;
use crate::store_url::StoreUrl;

/// A store to which a server appends before and after each query, until it has appended `left` exchanges.
struct GrowingStore {
    inner: Arc<dyn Store>,
    appended: AtomicU64,
    left: AtomicU64,
}

impl GrowingStore {
    async fn new(exchanges: u64, left: u64) -> Self {
        let store = Self {
            inner: StoreUrl::Memory
                .open(echoic_core::store::Durability::Off)
                .unwrap()
                .unwrap(),
            appended: AtomicU64::new(0),
            left: AtomicU64::new(0),
        };
        store.append_some(exchanges).await;
        store.left.store(left, Ordering::Relaxed);
        store
    }

    /// Appends an exchange.
    async fn grow(&self) {
        if self.left.load(Ordering::Relaxed) > 0 {
            self.left.fetch_sub(1, Ordering::Relaxed);
            self.append_some(1).await;
        }
    }

    /// Appends exchanges as a batch; their requests are `odd` or `even`, as their ids.
    async fn append_some(&self, count: u64) {
        let first = self.appended.fetch_add(count, Ordering::Relaxed) + 1;
        let mut batch = Batch::default();
        batch.number = first;
        if first == 1 {
            batch.events.push(Event::Opened(opened()));
        }
        for n in first..first + count {
            let meta = RunMeta {
                conversation: 1,
                n,
                at: i64::try_from(n).unwrap(),
                latency_ns: 1000 * (n % 7),
                reads: 1,
                reply_offset: 0,
            };
            let request: &[u8] = if n.is_multiple_of(2) { b"even" } else { b"odd" };
            batch.push_exchange(meta, Outcome::Ok, request, b"");
        }
        let ids = self.inner.append(vec![Arc::new(batch)]).await.unwrap();
        assert_eq!(ids, [first]);
    }
}

fn opened() -> Opened {
    let address = Address::Unix(None);
    Opened {
        conversation: 1,
        at: 0,
        remote: address.clone(),
        local: address,
        role: Role::Server,
        endpoint_info: Arc::new(EndpointInfo {
            name: "unix".to_owned(),
            proto: Protocol::Unix,
            service: "upper".to_owned(),
            framing: Framing::Line.into(),
        }),
        tls: None,
    }
}

impl Store for GrowingStore {
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>> {
        Box::pin(async {
            self.grow().await;
            let last = self.inner.last().await;
            self.grow().await;
            last
        })
    }

    fn find<'a>(
        &'a self,
        filter: &'a Filter,
        page: Page,
    ) -> BoxFuture<'a, Result<Found, StoreError>> {
        Box::pin(async move {
            self.grow().await;
            let found = self.inner.find(filter, page).await;
            self.grow().await;
            found
        })
    }

    fn append(
        &self,
        batches: Vec<Arc<Batch>>,
    ) -> BoxFuture<'_, Result<Vec<ExchangeId>, StoreError>> {
        self.inner.append(batches)
    }

    fn reserve_conversations(
        &self,
        count: u64,
    ) -> BoxFuture<'_, Result<ConversationId, StoreError>> {
        self.inner.reserve_conversations(count)
    }

    fn count<'a>(
        &'a self,
        filter: &'a Filter,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.inner.count(filter, now)
    }

    fn conversations<'a>(
        &'a self,
        filter: &'a Filter,
        page: ConversationPage,
    ) -> BoxFuture<'a, Result<FoundConversations, StoreError>> {
        self.inner.conversations(filter, page)
    }

    fn conversation(
        &self,
        id: ConversationId,
    ) -> BoxFuture<'_, Result<Option<ListedConversation>, StoreError>> {
        self.inner.conversation(id)
    }

    fn messages(
        &self,
        id: ConversationId,
        from_n: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Exchange>, StoreError>> {
        self.inner.messages(id, from_n, limit)
    }

    fn marks(&self, id: ConversationId) -> BoxFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.inner.marks(id)
    }

    fn label(&self, change: LabelChange) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner.label(change)
    }

    fn tags(&self) -> BoxFuture<'_, Result<Vec<TagCount>, StoreError>> {
        self.inner.tags()
    }

    fn series<'a>(
        &'a self,
        filter: &'a Filter,
        times: Range<Micros>,
        step: Micros,
        now: Micros,
    ) -> BoxFuture<'a, Result<Series, StoreError>> {
        self.inner.series(filter, times, step, now)
    }

    fn delete<'a>(
        &'a self,
        filter: &'a Filter,
        confirmed: u64,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.inner.delete(filter, confirmed, now)
    }

    fn gaps(
        &self,
        times: RangeInclusive<Micros>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Gap>, StoreError>> {
        self.inner.gaps(times, limit)
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, StoreError>> {
        self.inner.stats()
    }

    fn prune(&self, retention: Retention, now: Micros) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner.prune(retention, now)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.close()
    }
}

/// What is printed.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut printed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        printed.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Screen {
    fn ids(&self) -> Vec<u64> {
        let printed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = str::from_utf8(&printed).unwrap().lines();
        let ids = lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone());
        ids.map(|id| id.as_u64().unwrap()).collect()
    }
}

/// Lists what matches of 20 exchanges and follows the next 20, some of which come between two queries. Returns the ids listed,
/// and all ids printed.
fn printed(filter: &str, last: Option<u64>) -> (Vec<u64>, Vec<u64>) {
    printed_of(20, filter, last)
}

/// The same for a record of so many exchanges.
fn printed_of(exchanges: u64, filter: &str, last: Option<u64>) -> (Vec<u64>, Vec<u64>) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let store = runtime.block_on(GrowingStore::new(exchanges, 20));
    let log = Log {
        runtime,
        store: Arc::new(store),
        filter: Filter::parse(filter).unwrap(),
        first_word: None,
    };
    let screen = Screen::default();
    let mut printer = Printer::new(Form::Json, Payload::on(screen.clone(), false));
    let limits = Limits::new(last, log.filter.limit(), false);
    let Ok(listed) = log.list(&mut printer, &limits) else {
        panic!("it lists");
    };
    let of_list = screen.ids();
    let mut beyond = listed.last;
    for _ in 0..20 {
        if printer.printed == limits.in_all {
            break;
        }
        let Ok(next) = log.print_beyond(&mut printer, beyond, &limits) else {
            panic!("it follows");
        };
        beyond = next;
    }
    (of_list, screen.ids())
}

#[test]
fn exchange_is_followed_once_after_any_listing() {
    for last in [None, Some(0), Some(1), Some(5), Some(1000)] {
        let (listed, all) = printed("", last);
        let first = listed.first().copied().unwrap_or(all[0]);
        assert_eq!(all, (first..=40).collect::<Vec<_>>(), "-n {last:?}");
        assert!(listed.len() as u64 <= last.unwrap_or(u64::MAX));
        assert!(all.len() > listed.len(), "the control: some are followed");
    }
    for last in [None, Some(3)] {
        let (listed, all) = printed("even", last);
        let even = (listed[0]..=40).filter(|id| id.is_multiple_of(2));
        assert_eq!(all, even.collect::<Vec<_>>(), "-n {last:?}");
    }
}

/// The first of more exchanges than are read into memory is looked up instead.
#[test]
fn long_listing_of_the_last_is_complete() {
    for (filter, last) in [("", Some(1_001)), ("limit:1001", None)] {
        let (listed, all) = printed_of(1_100, filter, last);
        assert_eq!(listed.len(), 1_001);
        let first = listed[0];
        assert!((100..=110).contains(&first), "{first}");
        let expected = if last.is_some() { 1_120 } else { listed[1_000] };
        assert_eq!(all, (first..=expected).collect::<Vec<_>>());
    }
    let (listed, _) = printed_of(1_100, "", Some(2_000));
    assert_eq!(listed[0], 1, "there are fewer");
    let (listed, _) = printed_of(1_100, "id:<=1100", Some(1_100));
    assert_eq!(listed, (1..=1_100).collect::<Vec<_>>(), "exactly as many");
}

/// The orders that `-f` refuses look at the same exchanges.
#[test]
fn exchange_is_followed_once_after_a_sorted_listing() {
    for order in ["sort:-id", "sort:-t", "sort:lat", "sort:-lat", "sort:size"] {
        let (_, mut all) = printed(order, None);
        all.sort_unstable();
        assert_eq!(all, (1..=40).collect::<Vec<_>>(), "{order}");
    }
}

#[test]
fn limit_counts_listed_and_followed_exchanges() {
    for limit in [1, 3, 19, 25, 39] {
        let (listed, all) = printed(&format!("limit:{limit}"), None);
        assert_eq!(all.len(), limit, "{all:?}");
        let first = listed[0];
        assert_eq!(all, (first..first + limit as u64).collect::<Vec<_>>());
    }
    let (listed, all) = printed("limit:5", Some(2));
    assert_eq!((listed.len(), all.len()), (2, 5));
    let (listed, all) = printed("nothing limit:5", None);
    assert_eq!((listed.len(), all.len()), (0, 0));
}

#[test]
fn last_is_chosen_before_sort_and_limit() {
    let of_last: Vec<u64> = printed("sort:-id limit:2", Some(5)).0;
    assert_eq!(of_last.len(), 2);
    let (by_latency, _) = printed("sort:-lat limit:2", Some(3));
    let newest = by_latency.iter().max().unwrap();
    assert!(
        by_latency.iter().all(|id| newest - id < 3),
        "{by_latency:?}"
    );
    let (smallest_first, _) = printed("sort:lat limit:40", None);
    let latency = |id: &u64| id % 7;
    assert!(
        smallest_first.is_sorted_by_key(latency),
        "{smallest_first:?}"
    );
}
