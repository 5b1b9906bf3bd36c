//! The std shell of trill: it brings the core its files, memory, threads and terminal. The program is [`main`]; a
//! library of its rooms is not promised yet.

mod authentic;
mod cli;
mod commands;
mod conversation;
mod destination;
mod drafting;
mod engine;
mod exit;
mod fence;
mod flags;
mod full_context;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod generate;
mod gguf_write;
mod hf;
mod host;
mod input;
mod models;
mod options;
mod pack;
mod plan;
mod recode;
mod report;
mod session;
mod stream;
mod template;
mod terminal;
mod tune;
mod type_choice;

use exit::Outcome;
use options::Options;
use std::process::ExitCode;

/// The program: reads the command line, obeys, and says how it ended.
pub fn main() -> ExitCode {
    host::memory::start();
    host::install_panic_hook();
    host::signal::ignore_file_size_limit();
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let json = cli::wants_json(&arguments);
    match cli::parse(arguments).and_then(obey) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.report(json)),
    }
}

fn obey(request: cli::Request) -> Outcome {
    match request {
        cli::Request::Print(text) => report::text::print(&text),
        cli::Request::Run(command, options) => {
            report::log::start(options.verbosity);
            advise(&options);
            if options.json {
                host::signal::report_as_json();
            }
            (command.run)(&options)
        }
    }
}

/// Flags that are accepted because users of other runtimes type them.
fn advise(options: &Options) {
    if options.gpu_layers != 0 {
        log::warn!("-ngl {}: there is no GPU backend, every layer runs on the CPU", options.gpu_layers);
    }
}

/// What `--version` prints.
fn version() -> Outcome<String> {
    let features = host::cpu::describe(&host::cpu::features());
    let kernels = host::cpu::kernels()?.name();
    Ok(format!("trill {}\n{features} kernels={kernels}\n", env!("CARGO_PKG_VERSION")))
}
