//! The memory arithmetic, in one place: what a run takes, part by part, what the machine gives, and what follows from
//! the two. `trill plan` and `trill inspect` show it; loading a model obeys it. Everything comes from metadata: the
//! same layout code that will carve the memory measures it (see [`trill::mem::Carver`]).

use crate::commands::CHAT;
use crate::engine::Opened;
use crate::exit::{Code, Failure, Outcome};
use crate::host::memory::{self, Limits, size};
use crate::host::threads::STACK;
use crate::options::Options;
use crate::session::BUFFER_BYTES;
use trill::limits::CONTEXT_MAX;
use trill::mem::{ALIGN, Carver};
use trill::model::Model;
use trill::session::{Session, SessionConfig, SessionPlan};

/// Bytes for the program itself: its data, the allocator, templates, texts, buffers of files and streams.
const PROGRAM: u64 = 768 << 10;
/// Bytes for each token of context beside the cache: the lists of tokens read and of tokens said.
const TOKEN: u64 = 8;
/// Address space that a thread takes beside its stack: guard pages and its own variables.
const GUARD: u64 = 64 << 10;
/// Bytes of the first stack beside its frames: arguments and environment.
const ARGUMENTS: u64 = 256 << 10;
/// The kernel's table entry for a page of 4 KiB has 8 bytes.
const PAGES_PER_TABLE_BYTE: u64 = 512;

/// What a run will take, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The sizes it is for.
    pub(crate) config: SessionConfig,
    /// The model file: pages of it, or a copy.
    pub(crate) weights: u64,
    pub(crate) copied: bool,
    /// `--mlock`: the weights must have a place in memory.
    pub(crate) locked: bool,
    /// Index over the file, views of the weights, norms.
    pub(crate) tables: u64,
    /// Tables of the vocabulary, candidates of the sampler.
    pub(crate) vocabulary: u64,
    /// Cache, activations, logits.
    pub(crate) session: SessionPlan,
    /// Bytes that records of a session file are put together in, if one is written.
    pub(crate) record_buffer: u64,
    /// Bytes of the one block that is reserved.
    pub(crate) arena: usize,
}

/// A part of the plan for people and for `--json`.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) key: &'static str,
    pub(crate) bytes: u64,
}

/// Something that bounds memory, and what the plan wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) name: &'static str,
    pub(crate) there: u64,
    pub(crate) wanted: u64,
}

impl Bound {
    pub(crate) fn holds(&self) -> bool {
        self.wanted <= self.there
    }
}

impl Plan {
    pub(crate) fn kv(&self) -> u64 {
        self.session.kv as u64
    }

    /// Stacks of all threads, touched to their ends.
    fn stacks(&self) -> u64 {
        self.config.threads.max(1) as u64 * STACK as u64
    }

    fn program(&self) -> u64 {
        PROGRAM + self.record_buffer + TOKEN * self.config.context as u64
    }

    /// Everything but weights and cache.
    pub(crate) fn parts(&self) -> [Part; 6] {
        let part = |name, key, bytes| Part { name, key, bytes };
        [
            part("activations", "activation_bytes", self.session.activations as u64),
            part("logits", "logit_bytes", self.session.logits as u64),
            part("vocabulary", "vocabulary_bytes", self.vocabulary),
            part("norms and index", "table_bytes", self.tables),
            part("stacks of threads", "stack_bytes", self.stacks()),
            part("program, texts, buffers", "program_bytes", self.program()),
        ]
    }

    /// Everything but weights and cache.
    pub(crate) fn scratch(&self) -> u64 {
        self.parts().iter().map(|p| p.bytes).sum()
    }

    /// All of it: weights, cache and the rest.
    pub(crate) fn total(&self) -> u64 {
        self.weights + self.kv() + self.scratch()
    }

    /// Memory of the process's own: all but pages of the file, which the system may drop and read again.
    pub(crate) fn own(&self) -> u64 {
        self.total() - if self.copied { 0 } else { self.weights }
    }

    /// What must find a place in memory at once.
    fn must_stay(&self) -> u64 {
        if self.locked { self.total() } else { self.own() }
    }

    /// The kernel's own memory for the process, which control groups count.
    pub(crate) fn page_tables(&self) -> u64 {
        self.total() / PAGES_PER_TABLE_BYTE + GUARD
    }

    /// Address space: the mapped file counts, and so does the program's code.
    pub(crate) fn address_space(&self) -> u64 {
        let guards = self.config.threads as u64 * GUARD;
        memory::address_space_at_start() + ARGUMENTS + self.own() + self.weights + guards
    }

    /// The plan against each limit that exists.
    pub(crate) fn bounds(&self, machine: &Limits) -> Vec<Bound> {
        let bound = |name, there: Option<u64>, wanted| there.map(|there| Bound { name, there, wanted });
        let all = [
            bound("free memory", machine.free, self.must_stay()),
            bound("control group", machine.group, self.must_stay() + self.page_tables()),
            bound("address space (ulimit -v)", machine.address_space, self.address_space()),
        ];
        all.into_iter().flatten().collect()
    }

    pub(crate) fn fits(&self, machine: &Limits) -> bool {
        self.bounds(machine).iter().all(Bound::holds)
    }

    /// Whether memory holds all the weights as well. If not, every token reads some of the file again.
    pub(crate) fn weights_stay(&self, machine: &Limits) -> bool {
        let there = [machine.free, machine.group].into_iter().flatten().min();
        there.is_none_or(|there| self.total() <= there)
    }

    /// One line for people.
    pub(crate) fn line(&self, machine: &Limits) -> String {
        let weights = if self.copied { "with a copy of the weights" } else { "beside the mapped weights" };
        let slow = if self.weights_stay(machine) {
            ""
        } else {
            "; the weights will not all stay in memory: slow (see trill plan)"
        };
        format!(
            "plan: {} of memory, {} of it keys and values of {} tokens, {weights} ({}); {} can be had{slow}",
            size(self.own()),
            size(self.kv()),
            self.config.context,
            size(self.weights),
            size(machine.available()),
        )
    }
}

/// Measures plans of one model.
pub(crate) struct Estimate<'o> {
    opened: &'o Opened,
    copied: bool,
    locked: bool,
    record_buffer: u64,
    model: Model<'static>,
    tables: usize,
    vocabulary: usize,
}

impl<'o> Estimate<'o> {
    /// `more` lays out what a command has beside model and session.
    pub(crate) fn new(
        options: &Options,
        opened: &'o Opened,
        more: &dyn Fn(&Model<'_>, &mut Carver<'static>) -> Outcome,
    ) -> Outcome<Estimate<'o>> {
        let mut carver = Carver::measure();
        let model = Model::load(&opened.gguf, &mut carver).map_err(|e| Failure::from(e).about(&opened.path))?;
        let tables = carver.used();
        more(&model, &mut carver)?;
        let vocabulary = carver.used() - tables;
        let kept = options.session.is_some() || (options.command == CHAT.name && !options.no_session);
        let record_buffer = if kept { BUFFER_BYTES as u64 } else { 0 };
        let (copied, locked) = (!options.mmap, options.mlock);
        Ok(Estimate { opened, copied, locked, record_buffer, model, tables, vocabulary })
    }

    /// What a session of these sizes takes.
    pub(crate) fn plan(&self, config: SessionConfig) -> Outcome<Plan> {
        let session = Session::plan(&self.model, config)?;
        let too_large = || Failure::new(Code::Memory, "the plan is larger than this machine's address space");
        let file = self.opened.length()?;
        let copy = if self.copied { file.checked_next_multiple_of(ALIGN).ok_or_else(too_large)? } else { 0 };
        let arena = [self.tables, self.vocabulary, session.total()].iter().try_fold(copy, |a, &b| a.checked_add(b));
        let indices = if self.copied { 2 } else { 1 };
        Ok(Plan {
            config,
            weights: file as u64,
            copied: self.copied,
            locked: self.locked,
            tables: (self.tables + indices * self.opened.index_bytes) as u64,
            vocabulary: self.vocabulary as u64,
            session,
            record_buffer: self.record_buffer,
            arena: arena.ok_or_else(too_large)?,
        })
    }

    /// The largest context that fits, whatever the model was trained for.
    pub(crate) fn largest_context(&self, config: SessionConfig, machine: &Limits) -> Option<usize> {
        let fits = |context| self.plan(SessionConfig { context, ..config }).is_ok_and(|plan: Plan| plan.fits(machine));
        let (mut least, mut most) = (0, CONTEXT_MAX);
        while least < most {
            let middle = least + (most - least).div_ceil(2);
            if fits(middle) { least = middle } else { most = middle - 1 }
        }
        (least > 0).then_some(least)
    }

    /// Refuses a plan that does not fit, with the largest context that does.
    pub(crate) fn check(&self, plan: &Plan, machine: &Limits) -> Outcome {
        let Some(broken) = plan.bounds(machine).into_iter().find(|b| !b.holds()) else { return Ok(()) };
        let what =
            format!("{} are needed and {} can be had ({})", size(broken.wanted), size(broken.there), broken.name);
        let remedy = match self.largest_context(plan.config, machine) {
            Some(context) => format!("the largest context that fits is -c {context}"),
            None => "not even one token of context fits: free some memory, or use a smaller model".to_owned(),
        };
        Err(Failure::new(Code::Memory, what).remedy(remedy).about(&self.opened.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trill::kv_cache::KvType;

    fn plan(copied: bool, locked: bool) -> Plan {
        let config = SessionConfig {
            context: 100,
            batch: 10,
            threads: 2,
            logit_rows: 1,
            cache_k: KvType::F16,
            cache_v: KvType::F16,
        };
        let session = SessionPlan { kv: 5000, activations: 300, logits: 20 };
        Plan {
            config,
            weights: 1 << 30,
            copied,
            locked,
            tables: 7,
            vocabulary: 3,
            session,
            record_buffer: 9,
            arena: 5330,
        }
    }

    #[test]
    fn parts_add_up() {
        let mapped = plan(false, false);
        assert_eq!(mapped.total(), mapped.weights + mapped.kv() + mapped.scratch());
        assert_eq!(mapped.own() + mapped.weights, mapped.total());
        assert_eq!(plan(true, false).own(), mapped.total());
        assert!(mapped.scratch() >= 300 + 20 + 7 + 3 + 2 * STACK as u64);
    }

    #[test]
    fn every_limit_that_exists_must_hold() {
        let mapped = plan(false, false);
        assert!(mapped.fits(&Limits::default()));
        let exact = |free, group, address_space| Limits {
            free: Some(free),
            group: Some(group),
            address_space: Some(address_space),
        };
        let (own, group, space) = (mapped.own(), mapped.own() + mapped.page_tables(), mapped.address_space());
        assert!(mapped.fits(&exact(own, group, space)));
        for less in [exact(own - 1, group, space), exact(own, group - 1, space), exact(own, group, space - 1)] {
            assert!(!mapped.fits(&less));
            assert_eq!(mapped.bounds(&less).iter().filter(|b| !b.holds()).count(), 1);
        }
        // Locked or copied weights need a place of their own; mapped ones would only be slow.
        let machine = Limits { free: Some(own), ..Limits::default() };
        assert!(!plan(true, false).fits(&machine) && !plan(false, true).fits(&machine));
        assert!(!mapped.weights_stay(&machine) && mapped.line(&machine).contains("slow"));
        assert!(mapped.weights_stay(&Limits { free: Some(mapped.total()), ..machine }));
    }
}
