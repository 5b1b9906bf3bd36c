//! The `trill` binary as its users meet it: the command line of `docs/cli.md`, real models, damaged files.

mod cli;
mod doctor;
mod files;
mod hostile;
mod pack;
mod quantize;
mod run;
mod sessions;
mod smollm2;
mod stories;
