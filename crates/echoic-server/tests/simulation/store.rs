//! The store of a world: its mood decides how it behaves, and it notes at which step it committed what.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
    sync::{Arc, Mutex, PoisonError},
};

use echoic_core::{
    event::{Batch, ConversationId, Event, ExchangeId, Mark, Micros},
    exchange::Exchange,
    filter::Filter,
    service::BoxFuture,
    store::{
        ConversationPage, Found, FoundConversations, Gap, LabelChange, Last, ListedConversation,
        Page, Retention, Series, Stats, Store, StoreError, TagCount,
    },
};

use super::steps::Steps;
use crate::common::TestStore;

#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) inner: Arc<TestStore>,
    steps: Steps,
    /// By conversation: reply offsets up to which everything is committed, each with the step of the commit.
    committed: Mutex<BTreeMap<ConversationId, Vec<(u64, u64)>>>,
}

impl Keeper {
    pub(super) fn new(steps: Steps) -> Arc<Self> {
        Arc::new(Self {
            inner: TestStore::new(crate::common::StoreMode::Commits),
            steps,
            committed: Mutex::default(),
        })
    }

    /// Returns the reply offset of `conversation` up to which everything was committed before `step`.
    pub(super) fn committed_before(&self, conversation: ConversationId, step: u64) -> u64 {
        let committed = self
            .committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(commits) = committed.get(&conversation) else {
            return 0;
        };
        let before = commits.partition_point(|(_, at)| *at < step);
        commits[..before].last().map_or(0, |(upto, _)| *upto)
    }

    fn note(&self, batches: &[Arc<Batch>]) {
        let step = self.steps.next();
        let mut committed = self
            .committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for batch in batches {
            for event in &batch.events {
                if let Event::Run(run) = event {
                    let upto = run.reply_offset + batch.bytes(run.reply).len() as u64;
                    committed
                        .entry(run.conversation)
                        .or_default()
                        .push((upto, step));
                }
            }
        }
    }
}

impl Store for Keeper {
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>> {
        self.inner.last()
    }

    fn reserve_conversations(
        &self,
        count: u64,
    ) -> BoxFuture<'_, Result<ConversationId, StoreError>> {
        self.inner.reserve_conversations(count)
    }

    fn append(
        &self,
        batches: Vec<Arc<Batch>>,
    ) -> BoxFuture<'_, Result<Vec<ExchangeId>, StoreError>> {
        Box::pin(async move {
            let appended = self.inner.append(batches.clone()).await;
            self.steps
                .log(|| format!("the store appends: {appended:?}"));
            if appended.is_ok() {
                self.note(&batches);
            }
            appended
        })
    }

    fn find<'a>(
        &'a self,
        filter: &'a Filter,
        page: Page,
    ) -> BoxFuture<'a, Result<Found, StoreError>> {
        self.inner.find(filter, page)
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
        Store::marks(&*self.inner, id)
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
        Store::gaps(&*self.inner, times, limit)
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
