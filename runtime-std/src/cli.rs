//! The command line: one table of flags, from which parsing and the help text come.

use crate::commands::{self, Command};
use crate::exit::{Failure, Outcome};
use crate::options::Options;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

/// A set of commands, one bit each: see [`Command::bit`].
pub(crate) type Set = u16;

/// One flag.
pub(crate) struct Flag {
    /// Every spelling. Names of several letters after one dash are those of llama.cpp and bitnet.cpp.
    pub(crate) names: &'static [&'static str],
    /// What the value is called in the help text; empty if the flag takes none.
    pub(crate) value: &'static str,
    /// Commands that know the flag.
    pub(crate) on: Set,
    /// Checks the value and puts it where it belongs. The error says what was expected.
    pub(crate) set: fn(&mut Options, &OsStr) -> Result<(), String>,
    /// One line of help.
    pub(crate) help: &'static str,
}

/// What the user wants.
pub(crate) enum Request {
    /// Print this text.
    Print(String),
    /// Run a command.
    Run(&'static Command, Box<Options>),
}

/// Reads the arguments (without the program's name).
pub(crate) fn parse(arguments: Vec<OsString>) -> Outcome<Request> {
    let mut words = Words { parser: lexopt::Parser::from_args(arguments), command: None };
    let mut options = Options::default();
    let mut first = true;
    loop {
        match words.next()? {
            None => break,
            Some(Word::Value(word)) if first && commands::find(&word).is_some() => {
                words.command = commands::find(&word);
            }
            Some(Word::Value(word)) if first && word == "help" => return help_for(&mut words),
            Some(Word::Value(word)) => positional(&words, &mut options, word)?,
            Some(Word::Name(name)) if name == "-h" || name == "--help" => {
                return Ok(Request::Print(words.command.map_or_else(overview, help)));
            }
            Some(Word::Name(name)) if name == "--version" => return Ok(Request::Print(crate::version()?)),
            Some(Word::Name(name)) => flag(&mut words, &mut options, &name)?,
        }
        first = false;
    }
    let command = match words.command {
        Some(command) => command,
        None if first && !options.talks_by_default() => {
            return Ok(Options::story()
                .map_or_else(|| Request::Print(overview()), |story| Request::Run(&commands::RUN, Box::new(story))));
        }
        None => commands::default_for(&options),
    };
    options.command = command.name;
    options.check()?;
    Ok(Request::Run(command, Box::new(options)))
}

/// Whether `--json` is among the arguments: asked when they could not be parsed.
pub(crate) fn wants_json(arguments: &[OsString]) -> bool {
    arguments.iter().take_while(|a| *a != "--").any(|a| a == "--json")
}

enum Word {
    Name(String),
    Value(OsString),
}

struct Words {
    parser: lexopt::Parser,
    command: Option<&'static Command>,
}

impl Words {
    fn next(&mut self) -> Outcome<Option<Word>> {
        if let Some(name) = self.single_dash_word() {
            return Ok(Some(Word::Name(name)));
        }
        Ok(match self.parser.next().map_err(wrong)? {
            None => None,
            Some(lexopt::Arg::Short(letter)) => Some(Word::Name(format!("-{letter}"))),
            Some(lexopt::Arg::Long(name)) => Some(Word::Name(format!("--{name}"))),
            Some(lexopt::Arg::Value(word)) => Some(Word::Value(word)),
        })
    }

    /// `-temp`, `-ngl`: spellings that getopt would read as a row of one-letter flags.
    fn single_dash_word(&mut self) -> Option<String> {
        let mut rest = self.parser.try_raw_args()?;
        let name = rest.peek()?.to_str()?.to_owned();
        if name.len() > 2 && !name.starts_with("--") && find(&name, None).is_some() {
            rest.next();
            return Some(name);
        }
        None
    }
}

fn wrong(error: lexopt::Error) -> Failure {
    Failure::usage(error.to_string()).remedy("see trill --help")
}

/// The flag called `name`, for one command or for any.
fn find(name: &str, command: Option<&Command>) -> Option<&'static Flag> {
    let on = command.map_or(Set::MAX, |c| c.bit);
    crate::flags::FLAGS.iter().find(|f| f.on & on != 0 && f.names.contains(&name))
}

fn flag(words: &mut Words, options: &mut Options, name: &str) -> Outcome {
    let command = words.command;
    // Without a command only `run` and `chat` can be meant.
    let found = match command {
        Some(_) => find(name, command),
        None => find(name, Some(&commands::RUN)).or_else(|| find(name, Some(&commands::CHAT))),
    };
    let Some(flag) = found else {
        let help = command.map_or("trill --help".into(), |c| format!("trill {} --help", c.name));
        let what = match (find(name, None), command) {
            (Some(_), Some(c)) => format!("trill {} does not know the flag {name}", c.name),
            _ => format!("unknown flag {name}"),
        };
        return Err(Failure::usage(what).remedy(format!("see {help}")));
    };
    let value = match flag.value {
        "" => OsString::new(),
        expected => words.parser.value().map_err(|_| Failure::usage(format!("{name} needs a value: {expected}")))?,
    };
    (flag.set)(options, &value).map_err(|expected| {
        let given = value.to_string_lossy();
        Failure::usage(if given.is_empty() {
            format!("{name}: {expected}")
        } else {
            format!("{name} {given}: {expected}")
        })
    })
}

fn positional(words: &Words, options: &mut Options, word: OsString) -> Outcome {
    match words.command {
        Some(command) if command.takes_model && options.model.is_none() => {
            options.model = Some(word.into());
            Ok(())
        }
        Some(command) if options.operands.len() < command.operands.len() => {
            options.operands.push(word);
            Ok(())
        }
        Some(command) => Err(Failure::usage(format!("unexpected argument {}", word.to_string_lossy()))
            .remedy(format!("see trill {} --help", command.name))),
        None => Err(Failure::usage(format!("unknown command {}", word.to_string_lossy())).remedy(format!(
            "the commands are {}",
            commands::ALL.iter().map(|c| c.name).collect::<Vec<_>>().join(", ")
        ))),
    }
}

fn help_for(words: &mut Words) -> Outcome<Request> {
    match words.next()? {
        Some(Word::Value(word)) => match commands::find(&word) {
            Some(command) => Ok(Request::Print(help(command))),
            None => Err(Failure::usage(format!("unknown command {}", word.to_string_lossy()))),
        },
        _ => Ok(Request::Print(overview())),
    }
}

/// The help text of the program.
fn overview() -> String {
    let mut text = String::from(
        "trill runs small language models on small CPUs.\n\n\
         usage: trill COMMAND [flags]\n       \
         trill -m MODEL            a conversation (trill chat)\n       \
         trill -m MODEL -p TEXT    continues the text (trill run)\n\ncommands:\n",
    );
    for command in commands::ALL {
        let _ = writeln!(text, "  {:<11} {}", command.name, command.summary);
    }
    text.push_str(
        "\ntrill COMMAND --help lists a command's flags; trill --version shows the CPU and the kernels chosen.\n\
         Without -m the model is $TRILL_MODEL, else the newest file in $XDG_DATA_HOME/trill/models,\n\
         else a tiny story model where the binary holds one.\n\
         TRILL_KERNELS forces one of: scalar neon neon-dotprod neon-i8mm avx2 avx-vnni avx512-vnni.\n",
    );
    text
}

/// The help text of a command.
fn help(command: &Command) -> String {
    let mut text = format!("{}\n\nusage: trill {}\n\nflags:\n", command.summary, command.usage);
    for flag in crate::flags::FLAGS.iter().filter(|f| f.on & command.bit != 0 && !f.help.is_empty()) {
        let mut left = flag.names.join(", ");
        if !flag.value.is_empty() {
            let _ = write!(left, " {}", flag.value);
        }
        if left.chars().count() > 34 {
            let _ = write!(text, "  {left}\n  {:<34} {}\n", "", flag.help);
        } else {
            let _ = writeln!(text, "  {left:<34} {}", flag.help);
        }
    }
    if !command.notes.is_empty() {
        let _ = write!(text, "\n{}\n", command.notes);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Outcome<(&'static Command, Box<Options>)> {
        match parse(line.split(' ').map(OsString::from).collect())? {
            Request::Run(command, options) => Ok((command, options)),
            Request::Print(text) => panic!("printed {text}"),
        }
    }

    #[test]
    fn both_spellings() {
        for line in [
            "run -m a -p hi -n 3 -c 64 -t 2 -b 8 -s 7 --temp 0.5 -sys x",
            "run --model a --prompt hi --n-predict 3 --ctx-size 64 --threads 2 --batch-size 8 --seed 7 -temp 0.5 \
             --system-prompt x",
            "run --model=a --prompt=hi --predict=3 --ctx-size=64 --num-threads=2 -b8 -s7 --temp=0.5 -sys x",
            "-m a -p hi -n 3 -c 64 -t 2 -b 8 -s 7 -temp 0.5 -sys x",
        ] {
            let (command, options) = run(line).unwrap();
            assert_eq!(command.name, "run", "{line}");
            assert_eq!(options.model.as_deref(), Some(std::path::Path::new("a")));
            assert_eq!(options.prompt.as_deref(), Some("hi"));
            assert_eq!((options.predict, options.context, options.threads), (Some(3), Some(64), Some(2)));
            assert_eq!((options.batch, options.seed), (Some(8), Some(7)));
            assert_eq!(options.sampling.temperature, 0.5);
            assert_eq!(options.system.as_deref(), Some("x"));
        }
    }

    #[test]
    fn values_may_look_like_flags() {
        let (_, options) = run("run -m a -p -temp").unwrap();
        assert_eq!(options.prompt.as_deref(), Some("-temp"));
        assert_eq!(run("run -m a -n -1").unwrap().1.predict, None);
    }

    #[test]
    fn every_flag_of_a_usage_line_is_known() {
        for command in commands::ALL {
            let flags = command.usage.split([' ', '[', ']', '|']).filter(|w| w.starts_with('-') && w.len() > 1);
            flags.for_each(|name| assert!(find(name, Some(command)).is_some(), "{}: {name}", command.usage));
        }
    }

    #[test]
    fn wrong_usage_is_said() {
        for (line, says) in [
            ("run --frobnicate", "unknown flag --frobnicate"),
            ("bench --ignore-eos", "trill bench does not know the flag --ignore-eos"),
            ("frobnicate", "unknown command frobnicate"),
            ("run -m", "-m needs a value"),
            ("run -t 0", "-t 0: "),
            ("run --temp nan", "--temp nan: "),
            ("inspect a b", "unexpected argument b"),
        ] {
            let failure = run(line).map(|_| ()).unwrap_err();
            assert_eq!(failure.code, crate::exit::Code::Usage, "{line}");
            assert!(failure.message.contains(says), "{line}: {}", failure.message);
        }
    }

    #[test]
    fn no_spelling_means_two_things() {
        for flag in crate::flags::FLAGS {
            for name in flag.names {
                assert!(name.starts_with('-'));
                for other in crate::flags::FLAGS.iter().filter(|o| !std::ptr::eq(*o, flag)) {
                    assert!(flag.on & other.on == 0 || !other.names.contains(name), "{name}");
                }
            }
        }
    }

    #[test]
    fn every_flag_is_in_a_help_text() {
        for command in commands::ALL {
            let text = help(command);
            for flag in crate::flags::FLAGS.iter().filter(|f| f.on & command.bit != 0 && !f.help.is_empty()) {
                assert!(text.contains(flag.names[0]) && text.contains(flag.help));
            }
            assert!(overview().contains(command.name));
        }
    }
}
