//! The `trill` binary as its users meet it: the command line of `docs/cli.md`, real models, damaged files.

#[path = "../common/mod.rs"]
#[allow(dead_code)]
mod common;

mod breaking;
mod cli;
mod context;
mod doctor;
mod ends;
mod fence;
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
#[path = "../common/template_bombs.rs"]
mod template_bombs;
mod templates;
mod terminal;
mod tune;
mod verify;
