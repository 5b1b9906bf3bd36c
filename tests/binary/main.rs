//! The `trill` binary as its users meet it: the command line of `docs/cli.md`, real models, damaged files.

mod breaking;
mod cli;
mod context;
mod doctor;
mod ends;
mod files;
mod files_out;
mod hostile;
mod limits;
mod pack;
mod plan;
mod quantize;
mod run;
mod sessions;
mod smollm2;
mod stories;
mod tune;
