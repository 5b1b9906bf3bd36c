//! The only door for shells: a model, working memory and a position in a text.
//!
//! `Session::new` over a measuring [`Carver`] tells the bytes it will need; over real memory it makes the
//! session. After that nothing is allocated, ever.

mod shift;
mod state;

pub use state::StateKey;

use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::kv_cache::{KvCache, KvShape, KvType, PASS_MAX};
use crate::limits;
use crate::mem::Carver;
use crate::model::{Buffers, Model, Pass, Screening, Skipping};
use crate::parallel::{Executor, with_team};
use core::ops::ControlFlow;

/// Sizes of a session, which decide its memory.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    /// Positions the cache can hold.
    pub context: usize,
    /// Tokens that go through the layers together during prefill.
    pub batch: usize,
    /// Threads the executor will have, at most.
    pub threads: usize,
    /// Positions whose logits are computed together when all are wanted ([`Session::logits_all`]).
    pub logit_rows: usize,
    /// Storage of keys.
    pub cache_k: KvType,
    /// Storage of values.
    pub cache_v: KvType,
}

/// Bytes of a session, by part. Their sum is what [`Session::new`] takes from its carver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionPlan {
    /// Keys and values.
    pub kv: usize,
    /// Activations of a batch and attention scores of each thread.
    pub activations: usize,
    /// Logits.
    pub logits: usize,
}

impl SessionPlan {
    /// All parts.
    pub fn total(&self) -> usize {
        self.kv + self.activations + self.logits
    }
}

/// A text being read and written.
pub struct Session<'m, 's> {
    model: &'m Model<'m>,
    kernels: Kernels,
    config: SessionConfig,
    position: usize,
    cache: KvCache<'s>,
    buffers: Buffers<'s>,
    logits: &'s mut [f32],
    top: Option<usize>,
    /// See [`Session::unchanged`].
    unchanged: usize,
}

impl SessionConfig {
    fn in_range(self) -> Self {
        let context = self.context.clamp(1, limits::CONTEXT_MAX);
        let batch = self.batch.clamp(1, limits::BATCH_MAX.min(context));
        let threads = self.threads.clamp(1, limits::THREADS_MAX);
        SessionConfig { context, batch, threads, logit_rows: self.logit_rows.clamp(1, batch), ..self }
    }
}

/// Lays a session out; `mark` hears the bytes used after each part.
fn parts<'s>(
    model: &Model<'_>,
    config: SessionConfig,
    carver: &mut Carver<'s>,
    mark: &mut dyn FnMut(usize),
) -> Result<(KvCache<'s>, Buffers<'s>, &'s mut [f32])> {
    let hp = &model.hparams;
    let shape = KvShape { layers: hp.n_layer, heads: hp.n_head_kv, head_dim: hp.head_dim, capacity: config.context };
    let cache = KvCache::new(config.cache_k, config.cache_v, shape, carver)?;
    mark(carver.used());
    let buffers = Buffers::new(model, (config.batch, config.context, config.threads), config.cache_k, carver)?;
    mark(carver.used());
    let logits = carver.take(config.logit_rows * hp.n_vocab, 0.0)?;
    mark(carver.used());
    Ok((cache, buffers, logits))
}

impl<'m, 's> Session<'m, 's> {
    /// A session at position 0. Sizes outside [`limits`] are brought into range.
    pub fn new(model: &'m Model<'m>, kernels: Kernels, config: SessionConfig, carver: &mut Carver<'s>) -> Result<Self> {
        let config = config.in_range();
        let (cache, buffers, logits) = parts(model, config, carver, &mut |_| ())?;
        Ok(Session { model, kernels, config, position: 0, cache, buffers, logits, top: None, unchanged: 0 })
    }

    /// The memory a session will take, before there is any.
    pub fn plan(model: &Model<'_>, config: SessionConfig) -> Result<SessionPlan> {
        let mut marks = heapless::Vec::<usize, 3>::new();
        // `parts` has three.
        parts(model, config.in_range(), &mut Carver::measure(), &mut |used| {
            let _ = marks.push(used);
        })?;
        match marks[..] {
            [kv, activations, logits] => {
                Ok(SessionPlan { kv, activations: activations - kv, logits: logits - activations })
            }
            _ => Ok(SessionPlan::default()),
        }
    }

    /// Tokens read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Tokens the session can hold.
    pub fn capacity(&self) -> usize {
        self.config.context
    }

    /// The sizes in use.
    pub fn config(&self) -> SessionConfig {
        self.config
    }

    /// From now on, activations of true-binary weights (B1) take their signs at random, +1 with probability
    /// `1 / (1 + e^-x)`, see [`crate::quant::sign_stochastic`]; `None` (at first) takes the sign of `x`.
    pub fn set_stochastic_signs(&mut self, seed: Option<u64>) {
        self.buffers.acts.sign_seed = seed;
    }

    /// Forgets everything from position `len` on, and as much before it as must be read again to go on as if what is
    /// forgotten had never been; returns the position where the session stands then. That is `len` itself (or the present
    /// position, if that is lower) for the last few positions, for the end of the last prompt, and for caches of
    /// [`KvType::F16`] and [`KvType::Q8`] anywhere.
    pub fn truncate(&mut self, len: usize) -> usize {
        self.position = self.cache.truncate(len, self.position);
        self.unchanged = self.unchanged.min(self.position);
        self.position
    }

    /// Reads `tokens` and returns the logits after the last one (`n_vocab` values); with one token this is
    /// a decode step. `progress` hears how many of the tokens are done and may stop the reading: the session
    /// then stands after the last whole batch.
    ///
    /// Errors: [`Error::ContextFull`] and [`Error::TokenOutOfRange`] before anything is read,
    /// [`Error::Interrupted`]. No tokens give an empty slice.
    pub fn prefill(
        &mut self,
        executor: &dyn Executor,
        tokens: &[u32],
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<&mut [f32]> {
        self.check(executor, tokens)?;
        if tokens.is_empty() {
            return Ok(&mut []);
        }
        let (vocab, total) = (self.model.hparams.n_vocab, tokens.len());
        let (cache, buffers) = (&mut self.cache, &mut self.buffers);
        let logits = &mut self.logits[..vocab];
        with_team(executor, |team| {
            let layers = self.model.layers.len().max(1);
            let mut done = 0;
            for tokens in tokens.chunks(self.config.batch) {
                let n = tokens.len();
                let long = n > PASS_MAX;
                if long || (done == 0 && total > 1) {
                    cache.set_mark(self.position);
                }
                let pass = Pass { team, kernels: &self.kernels, model: self.model, start: self.position, n };
                let read = pass.forward(tokens, cache, buffers, &mut |layer| progress(done + n * layer / layers));
                if read.is_err() && long {
                    cache.return_to_mark();
                }
                read?;
                self.position += n;
                done += n;
                if done == total {
                    pass.head(n - 1..n, self.top, buffers, logits);
                }
            }
            Ok::<(), Error>(())
        })?;
        if total > 1 {
            self.cache.set_mark(self.position);
        }
        Ok(&mut self.logits[..vocab])
    }

    /// Asks for only the `top` highest logits of each token from now on: greedy choice needs 1, top-k sampling
    /// without penalties k. The others may then read as a number below every logit. It saves reading most of the output
    /// head where the model file holds a sketch of it (`trill pack`), and changes nothing else: those highest are
    /// the same bits. `None` asks for all. [`Session::logits_all`] gives all regardless.
    pub fn set_top(&mut self, top: Option<usize>) {
        self.top = top;
    }

    /// How often the sketch of the output head was used.
    pub fn screening(&self) -> Screening {
        self.buffers.screening
    }

    /// Whether parts of the feed-forward matrices that are multiplied by zero are left unread, where a packed file has a
    /// squared ReLU and layouts for it (`trill pack`). It changes no result; on at first.
    pub fn set_skip(&mut self, on: bool) {
        self.buffers.skip.on = on;
    }

    /// What was read of each layer's feed-forward matrices; empty for models without a squared ReLU.
    pub fn skipping(&self) -> &[Skipping] {
        self.buffers.skip.layers
    }

    /// Reads `tokens` and hands `visit` the logits after each of them, with its index in `tokens`.
    pub fn logits_all(
        &mut self,
        executor: &dyn Executor,
        tokens: &[u32],
        visit: &mut dyn FnMut(usize, &mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let visit = &mut |i: usize, logits: &mut [f32]| visit(i, logits).map(|()| true);
        self.logits_each(executor, tokens, None, visit).map(|_| ())
    }

    /// Reads a token and guesses at what follows it, in as few passes as the batch allows. `visit` gets the logits after each
    /// (those that [`Session::set_top`] asks for), with its index, and says whether the next token is the one it chose; what was
    /// read beyond is forgotten, and leaves no trace. Returns how many of `tokens` stay.
    ///
    /// # Panics
    /// If there are more than [`limits::GUESSES_MAX`] guesses: a bug of the caller.
    pub fn verify(
        &mut self,
        executor: &dyn Executor,
        tokens: &[u32],
        visit: &mut dyn FnMut(usize, &mut [f32]) -> bool,
    ) -> Result<usize> {
        assert!(tokens.len() <= PASS_MAX);
        let before = self.position;
        let right = self.logits_each(executor, tokens, self.top, &mut |i, logits| Ok(visit(i, logits)))?;
        self.position = before + right;
        self.cache.retract(self.position);
        Ok(right)
    }

    /// Reads `tokens` until `visit` says false, and returns how many it was called for; more may have been read.
    fn logits_each(
        &mut self,
        executor: &dyn Executor,
        tokens: &[u32],
        top: Option<usize>,
        visit: &mut dyn FnMut(usize, &mut [f32]) -> Result<bool>,
    ) -> Result<usize> {
        self.check(executor, tokens)?;
        let (vocab, rows) = (self.model.hparams.n_vocab, self.config.logit_rows);
        let (cache, buffers) = (&mut self.cache, &mut self.buffers);
        with_team(executor, |team| {
            let mut done = 0;
            for tokens in tokens.chunks(self.config.batch) {
                let n = tokens.len();
                let pass = Pass { team, kernels: &self.kernels, model: self.model, start: self.position, n };
                pass.forward(tokens, cache, buffers, &mut |_| ControlFlow::Continue(()))?;
                self.position += n;
                for start in (0..n).step_by(rows) {
                    let end = n.min(start + rows);
                    let logits = &mut self.logits[..(end - start) * vocab];
                    pass.head(start..end, top, buffers, logits);
                    for (i, row) in logits.chunks_exact_mut(vocab).enumerate() {
                        if !visit(done + start + i, row)? {
                            return Ok(done + start + i + 1);
                        }
                    }
                }
                done += n;
            }
            Ok(done)
        })
    }

    fn check(&self, executor: &dyn Executor, tokens: &[u32]) -> Result<()> {
        assert!(executor.threads() <= self.config.threads, "the session was sized for fewer threads");
        let need = self.position.saturating_add(tokens.len());
        if need > self.config.context {
            return Err(Error::ContextFull { need, capacity: self.config.context });
        }
        let vocab = self.model.hparams.n_vocab;
        match tokens.iter().find(|&&t| t as usize >= vocab) {
            Some(&id) => Err(Error::TokenOutOfRange { id, vocab }),
            None => Ok(()),
        }
    }
}
