//! Finds the partitions of a source, and where each is to be begun: on a thread of its own, as the cluster may
//! take its time to answer.
//!
//! ```text
//!   topics of the cluster ─► those that filters take ─► partitions of this share ─► Found, with the offset
//!   asked: which partitions have lost what was to come ─► Gap
//!   asked: where a wrong checksum is ─► Damage
//! ```
//! It is also what tells that the cluster is away: it asks again and again, also while nothing comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{info, warn};

use super::consumer::Context;
use super::damage::{Damage, Probe};
use super::partitions::{Deal, Partition, takes};
use super::{KafkaSettings, Start};
use crate::queue::Waker;

/// How often the cluster is asked for new partitions.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often while it does not answer, or a topic is not there.
const RETRY: Duration = Duration::from_millis(500);
/// How long it may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What a source is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A partition is there, and goes on at this offset.
    Found(Partition, u64),
    /// The topic of a partition is gone.
    Removed(Partition),
    /// What was to come from `next` on is not there: the partition begins at `begin` and ends before `end`.
    Gap { partition: Partition, next: u64, begin: u64, end: u64 },
    /// The partitions that were asked about are damaged here; all others are sound where they go on.
    Damage(Vec<Damage>),
    /// The cluster does not answer, for this reason.
    Lost(String),
    /// It does.
    Reached,
}

/// What the thread is asked.
pub(super) enum Question {
    /// To look now.
    Look,
    /// Which of these have lost what was to come; each with the offset that it goes on at.
    Gaps(Vec<(Partition, u64)>),
    /// Which of these are damaged where they go on.
    Damage(Vec<(Partition, u64)>),
}

/// The source's side.
pub(super) struct Port {
    /// Ends the thread when it is dropped.
    pub questions: mpsc::Sender<Question>,
    pub news: mpsc::Receiver<News>,
}

/// The thread's side.
pub(super) struct Discovery {
    pub name: String,
    pub consumer: Arc<BaseConsumer<Context>>,
    pub filters: Vec<String>,
    pub settings: KafkaSettings,
    /// Partitions that a checkpoint knows, with the offsets at which they go on.
    pub known: BTreeMap<Partition, u64>,
    /// Says which partitions are this process's.
    pub deal: Deal,
    pub waker: Waker,
}

/// Starts the thread; it ends with the port.
pub(super) fn start(discovery: Discovery) -> std::io::Result<Port> {
    let (questions, asked) = mpsc::channel();
    let (told, news) = mpsc::channel();
    let thread = std::thread::Builder::new().name(format!("discover-{}", discovery.name));
    thread.spawn(move || {
        let (found, topics, missing) = Default::default();
        Looking { discovery, told, found, topics, missing }.run(&asked);
    })?;
    Ok(Port { questions, news })
}

struct Looking {
    discovery: Discovery,
    told: mpsc::Sender<News>,
    /// Partitions that were told of and are there.
    found: BTreeSet<Partition>,
    /// Topics that were seen: what comes to them later is read from its begin.
    topics: BTreeSet<String>,
    /// Topics that were asked for by name, are not there, and were complained of.
    missing: BTreeSet<String>,
}

impl Looking {
    fn run(mut self, asked: &mpsc::Receiver<Question>) {
        self.topics.extend(self.discovery.known.keys().map(|partition| partition.topic.clone()));
        let mut is_first = true;
        let mut question = Question::Look;
        loop {
            let outcome = self.look(is_first).and_then(|()| match &question {
                Question::Look => Ok(()),
                Question::Gaps(partitions) => self.find_gaps(partitions),
                Question::Damage(partitions) => self.find_damage(partitions),
            });
            let pause = match outcome {
                Ok(()) => {
                    is_first = false;
                    question = Question::Look;
                    self.tell(News::Reached);
                    if self.missing.is_empty() { INTERVAL } else { RETRY }
                }
                Err(error) => {
                    let reason = self.discovery.consumer.context().complaint.explain(&error);
                    self.tell(News::Lost(reason));
                    RETRY
                }
            };
            match asked.recv_timeout(pause) {
                // What was asked before and has no answer yet is asked again.
                Ok(Question::Look) | Err(RecvTimeoutError::Timeout) => {}
                Ok(asked) => question = asked,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn tell(&self, news: News) {
        // A source that has ended wants to know no more; its questions end too.
        let _ = self.told.send(news);
        (self.discovery.waker)();
    }

    fn is_mine(&self, partition: &Partition) -> bool {
        self.discovery.deal.lane(partition).is_some()
    }

    fn look(&mut self, is_first: bool) -> Result<(), ClientError> {
        let metadata = self.discovery.consumer.fetch_metadata(None, ANSWER_MAX)?;
        let filters = &self.discovery.filters;
        let mut there = BTreeSet::new();
        for topic in metadata.topics() {
            if topic.error().is_none() && filters.iter().any(|filter| takes(filter, topic.name())) {
                let partitions = topic.partitions().iter();
                there.extend(partitions.map(|partition| Partition::new(topic.name(), partition.id())));
            }
        }
        self.complain_of_missing(&there);
        let new: Vec<Partition> = there.difference(&self.found).cloned().collect();
        let mine: Vec<Partition> = new.iter().filter(|partition| self.is_mine(partition)).cloned().collect();
        let offsets = self.begins(&mine, is_first)?;
        for (partition, offset) in mine.into_iter().zip(offsets) {
            self.tell(News::Found(partition, offset));
        }
        for partition in self.found.difference(&there) {
            if self.is_mine(partition) {
                self.tell(News::Removed(partition.clone()));
            }
        }
        self.topics.extend(new.into_iter().map(|partition| partition.topic));
        self.found = there;
        Ok(())
    }

    fn complain_of_missing(&mut self, there: &BTreeSet<Partition>) {
        for filter in &self.discovery.filters {
            let is_there = there.iter().any(|partition| takes(filter, &partition.topic));
            if !is_there && self.missing.insert(filter.clone()) {
                warn!(source = %self.discovery.name, topic = %filter, "topic is not there; waiting for it to be made");
            } else if is_there && self.missing.remove(filter) {
                info!(source = %self.discovery.name, topic = %filter, "topic is there");
            }
        }
    }

    /// Where partitions are begun: where a checkpoint says; else where the job says, if the topic was there from
    /// the first look on; else at their first record.
    fn begins(&self, partitions: &[Partition], is_first: bool) -> Result<Vec<u64>, ClientError> {
        let by_rule: Vec<&Partition> = partitions
            .iter()
            .filter(|partition| {
                is_first
                    && !self.discovery.known.contains_key(partition)
                    && !self.topics.contains(&partition.topic)
            })
            .collect();
        let ruled = self.by_rule(&by_rule)?;
        let begin = |partition: &Partition| match self.discovery.known.get(partition) {
            Some(offset) => Ok(*offset),
            None => match ruled.get(partition) {
                Some(offset) => Ok(*offset),
                None => Ok(self.watermarks(partition)?.0),
            },
        };
        partitions.iter().map(begin).collect()
    }

    fn by_rule(&self, partitions: &[&Partition]) -> Result<BTreeMap<Partition, u64>, ClientError> {
        let consumer = &self.discovery.consumer;
        let list = |offset: Offset| {
            let mut list = TopicPartitionList::new();
            for partition in partitions {
                list.add_partition_offset(&partition.topic, partition.number, offset)?;
            }
            Ok::<_, ClientError>(list)
        };
        let answer = match self.discovery.settings.start {
            Start::Earliest | Start::Latest => TopicPartitionList::new(),
            _ if partitions.is_empty() => TopicPartitionList::new(),
            Start::Stored => consumer.committed_offsets(list(Offset::Invalid)?, ANSWER_MAX)?,
            Start::At(ms) => consumer.offsets_for_times(list(Offset::Offset(ms))?, ANSWER_MAX)?,
        };
        let mut begins = BTreeMap::new();
        for partition in partitions {
            let element = answer.find_partition(&partition.topic, partition.number);
            let answered = element.and_then(|element| match element.offset() {
                Offset::Offset(offset) => u64::try_from(offset).ok(),
                _ => None,
            });
            let offset = match (answered, self.discovery.settings.start) {
                (Some(offset), _) => offset,
                (None, Start::Earliest | Start::Stored) => self.watermarks(partition)?.0,
                // Nothing of that instant or later is there yet.
                (None, Start::Latest | Start::At(_)) => self.watermarks(partition)?.1,
            };
            begins.insert((*partition).clone(), offset);
        }
        Ok(begins)
    }

    /// The offset of the first record, and that behind the last one.
    fn watermarks(&self, partition: &Partition) -> Result<(u64, u64), ClientError> {
        let (begin, end) =
            self.discovery.consumer.fetch_watermarks(&partition.topic, partition.number, ANSWER_MAX)?;
        Ok((u64::try_from(begin).unwrap_or(0), u64::try_from(end).unwrap_or(0)))
    }

    fn find_gaps(&self, partitions: &[(Partition, u64)]) -> Result<(), ClientError> {
        for (partition, next) in partitions.iter().filter(|(partition, _)| self.found.contains(partition)) {
            let (begin, end) = self.watermarks(partition)?;
            if !(begin..=end).contains(next) {
                self.tell(News::Gap { partition: partition.clone(), next: *next, begin, end });
            }
        }
        Ok(())
    }

    fn find_damage(&self, partitions: &[(Partition, u64)]) -> Result<(), ClientError> {
        let Discovery { name, settings, .. } = &self.discovery;
        let mut damages = Vec::new();
        match Probe::new(name, settings) {
            Ok(probe) => {
                for (partition, next) in partitions.iter().filter(|(one, _)| self.found.contains(one)) {
                    let (_, end) = self.watermarks(partition)?;
                    damages.extend(probe.look(partition, *next, end)?);
                }
            }
            // The source's own consumer has started with the same settings.
            Err(error) => warn!(source = %name, %error, "damage is not looked for"),
        }
        self.tell(News::Damage(damages));
        Ok(())
    }
}
