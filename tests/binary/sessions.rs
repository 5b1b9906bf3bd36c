//! `--session`: what was read is not read again, the text goes on as if nothing had happened, and nothing that
//! happens to the file, the disk or the process costs more than what was said last.

use crate::files::{Folder, stories};
use crate::run::{answer, in_repository, json, run, smollm2, trill};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const TYPES: [&str; 4] = ["f16", "q8", "q4", "q2"];

fn errors(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).expect("UTF-8 on standard error")
}

/// What standard output of a run that ends well says, and standard error.
fn both(command: Command) -> (String, String) {
    let out = run(command, "");
    assert!(out.status.success(), "{}", errors(&out));
    (String::from_utf8(out.stdout.clone()).expect("UTF-8"), errors(&out))
}

/// The number behind `restored` in what was told.
fn restored(told: &str) -> Option<usize> {
    told.split("restored ").nth(1)?.split(' ').next()?.parse().ok()
}

/// `trill run` on the tiny model.
fn tell(text: &str, n: &str, more: &[&str]) -> Command {
    let model = stories();
    let mut line = vec!["run", "-m", &model, "-n", n, "--temp", "0", "-t", "1", "--ignore-eos"];
    if !text.is_empty() {
        line.extend(["-p", text]);
    }
    line.extend(more);
    trill(&line)
}

#[test]
fn a_text_goes_on_where_it_ended() {
    let folder = Folder::new("session-run");
    for kv in TYPES {
        let file = folder.file(kv);
        let more = ["--session", &file, "--cache-type", kv];
        let whole = answer(tell("Once upon a time", "300", &["--cache-type", kv]), "");
        let (first, told) = both(tell("Once upon a time", "200", &more));
        assert_eq!(restored(&told), None, "{told}");
        let (second, told) = both(tell("", "100", &more));
        assert!(restored(&told).is_some_and(|n| n > 200), "{told}");
        assert_eq!(format!("{first}{second}"), whole, "{kv}");
        // The same text again shares its beginning, and needs no file of its own.
        let (again, told) = both(tell("Once upon a time", "300", &more));
        assert!(again == whole && restored(&told).is_some_and(|n| n >= 4), "{kv}: {told}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let said = json(tell("Once upon a time", "10", &["--session", &folder.file("f16"), "--json"]));
    assert!(said["timings"]["prompt_reused"].as_u64().is_some_and(|n| n >= 4), "{said}");
    let (said, told) = both(tell("Another story", "10", &["--session", &folder.file("f16")]));
    assert_eq!(said, answer(tell("Another story", "10", &[]), ""));
    // They may both begin with the token that begins every text.
    assert!(restored(&told).is_some_and(|n| n <= 1), "{told}");
    assert_eq!(folder.names().len(), TYPES.len(), "{:?}", folder.names());
}

/// Token ids of English text.
fn ids(model: &str, n: usize) -> Vec<String> {
    let text = fs::read_to_string(in_repository("tests/data/english.txt")).expect("text");
    let ids = answer(trill(&["tokenize", "-m", model]), text.get(..n * 8).unwrap_or(&text));
    let ids: Vec<String> = ids.split_whitespace().take(n).map(str::to_owned).collect();
    assert_eq!(ids.len(), n);
    ids
}

/// Positions at the start of a text that packed types keep as q8.
const FIRST: usize = 64;

/// Logits after `ids` must have the same bits whether all was read at once or most came from a file.
fn same_logits(model: &str, ids: &[String], kv: &str, folder: &Folder) -> String {
    let file = folder.file(&format!("logits-{kv}"));
    let (context, saved) = ((ids.len() + 8).to_string(), ids.len() - 1);
    let logits = |ids: &[String], more: &[&str]| {
        let ids = ids.join(",");
        let line = ["logits", "-m", model, "-c", &context, "--cache-type", kv, "--json", "--tokens", &ids];
        both(trill(&[&line[..], more].concat()))
    };
    let (whole, _) = logits(ids, &[]);
    logits(&ids[..saved], &["--session", &file]);
    let (resumed, told) = logits(ids, &["--session", &file, "-v"]);
    assert_eq!(restored(&told), Some(saved), "{kv}: {told}");
    assert!(whole == resumed, "{kv}: other bits after {saved} restored tokens");
    // And after a part of what is in the file: a few tokens back all is there; further back the newest rows of packed types
    // are not, and what comes after the first positions is read again.
    let packed = !matches!(kv, "f16" | "q8");
    for (back, there) in [(4, saved - 5), (20, if packed { FIRST } else { saved - 21 })] {
        let ids = &ids[..saved - back];
        let (shorter, told) = logits(ids, &["--session", &file]);
        assert_eq!(restored(&told), Some(there), "{kv}, {back} back: {told}");
        assert!(shorter == logits(ids, &[]).0, "{kv}, {back} back: other bits after a part was restored");
        logits(&self::ids(model, saved), &["--session", &file]);
    }
    told
}

#[test]
fn logits_after_a_resume_have_the_same_bits() {
    let folder = Folder::new("session-logits");
    let model = stories();
    let ids = ids(&model, 376);
    for kv in TYPES {
        same_logits(&model, &ids, kv, &folder);
    }
    if let Some(model) = smollm2() {
        let model = model.to_str().expect("UTF-8");
        same_logits(model, &self::ids(model, 200), "q4", &Folder::new("session-logits-smollm2"));
    }
}

/// Two thousand tokens of SmolLM2, every cache type: `cargo test --test binary -- --ignored two_thousand`.
#[test]
#[ignore = "takes minutes"]
fn two_thousand_tokens_come_back_in_a_second() {
    let model = smollm2().expect("TRILL_TEST_MODEL");
    let model = model.to_str().expect("UTF-8");
    let folder = Folder::new("session-2000");
    let ids = ids(model, 2001);
    for kv in TYPES {
        same_logits(model, &ids, kv, &folder);
        let text = answer(trill(&["detokenize", "-m", model, "-p", &ids.join(" ")]), "");
        let file = folder.file(kv);
        let more = ["--session", &file, "--cache-type", kv, "-c", "2200", "--temp", "0", "--ignore-eos", "-v"];
        let tell = |n: &str, text: Option<&str>| {
            let mut line = vec!["run", "-m", model, "-n", n];
            line.extend(text.iter().flat_map(|t| ["-p", t]));
            trill(&[&line[..], &more].concat())
        };
        both(tell("1", Some(&text)));
        let start = Instant::now();
        let (_, told) = both(tell("1", None));
        let took = start.elapsed();
        let size = fs::metadata(&file).unwrap().len();
        println!(
            "{kv}: {} in {took:.3?} all in all, {size} bytes",
            told.lines().find(|l| l.contains("saved")).unwrap()
        );
        assert!(restored(&told).is_some_and(|n| n >= 2000) && took < Duration::from_secs(1), "{kv}: {told}");
    }
}

#[test]
fn no_allocation_for_a_token_that_is_kept() {
    let folder = Folder::new("session-allocations");
    for _ in 0..2 {
        let text = "Once upon a time there was a little girl. ".repeat(8);
        let (_, told) = both(tell(&text, "100", &["--session", &folder.file("s"), "-v"]));
        assert!(told.contains("allocs since load: 0\n"), "{told}");
    }
}

const MESSAGES: [&str; 10] = [
    "Once upon a time",
    "What then?",
    "Who was there?",
    "Lily had a red ball.",
    "And her mother?",
    "Where did they go?",
    "Was it far?",
    "Tell me of the dog.",
    "Did it rain?",
    "How did it end?",
];

/// A conversation on the tiny model, as a script holds it.
fn talk(messages: &[&str], more: &[&str]) -> Command {
    let model = stories();
    let line = ["chat", "-m", &model, "-f", "-", "-n", "16", "--temp", "0", "-t", "1"];
    let mut command = trill(&[&line[..], more].concat());
    // The pipe holds it all.
    let (read, mut write) = std::io::pipe().expect("a pipe");
    write.write_all(messages.join("\n").as_bytes()).expect("room in the pipe");
    command.stdin(read);
    command
}

fn said(mut command: Command) -> (String, String) {
    let out = command.output().expect("trill runs");
    assert!(out.status.success(), "{}", errors(&out));
    (String::from_utf8(out.stdout.clone()).expect("UTF-8"), errors(&out))
}

/// How many messages of a conversation a file holds.
fn messages_in(file: &str, more: &[&str]) -> usize {
    let (_, told) = said(talk(&[""], &[&["--session", file], more].concat()));
    assert!(!told.contains("warning"), "{told}");
    told.split("conversation of ").nth(1).map_or(0, |t| t.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_conversation_goes_on() {
    let folder = Folder::new("session-chat");
    let file = folder.file("s");
    let (whole, _) = said(talk(&MESSAGES, &[]));
    let (first, told) = said(talk(&MESSAGES[..4], &["--session", &file]));
    assert!(restored(&told).is_none(), "{told}");
    let (second, told) = said(talk(&MESSAGES[4..], &["--session", &file]));
    assert!(restored(&told).is_some_and(|n| n > 40) && told.contains("of 8 messages"), "{told}");
    assert_eq!(format!("{first}{second}"), whole);
    // Another system message is another conversation: the file is left alone.
    let before = fs::read(&file).unwrap();
    let other = ["-sys", "Be brief."];
    let (fresh, told) = said(talk(&MESSAGES[..2], &[&["--session", &file], &other[..]].concat()));
    assert!(told.contains("system message") && told.contains("not saved"), "{told}");
    assert_eq!(fresh, said(talk(&MESSAGES[..2], &other)).0);
    assert!(fs::read(&file).unwrap() == before);
    // So is a text.
    let (fresh, told) = both(tell("Once", "10", &["--session", &file]));
    assert!(told.contains("trill chat") && fresh == answer(tell("Once", "10", &[]), ""), "{told}");
    assert!(fs::read(&file).unwrap() == before);
    // One that does not fit the context is not cut.
    let (_, told) = said(talk(&MESSAGES[..1], &["--session", &file, "-c", "64"]));
    assert!(told.contains("has room"), "{told}");
    assert!(fs::read(&file).unwrap() == before);
}

#[test]
fn what_does_not_belong_is_left_alone() {
    let folder = Folder::new("session-refused");
    let file = folder.file("s");
    let text = "Once upon a time";
    answer(tell(text, "40", &["--session", &file]), "");
    let sound = fs::read(&file).unwrap();
    let fresh = answer(tell(text, "12", &[]), "");
    let refused = |bytes: &[u8], more: &[&str], why: &str| {
        fs::write(&file, bytes).unwrap();
        let (said, told) = both(tell(text, "12", &[&["--session", &file], more].concat()));
        assert!(told.contains(why) && told.contains("not saved") && restored(&told).is_none(), "{why}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(fs::read(&file).unwrap() == bytes, "{why}: the file was changed");
        said
    };
    let changed = |at: usize, to: u8| {
        let mut bytes = sound.clone();
        bytes[at] = to;
        bytes
    };
    assert_eq!(refused(&changed(sound.len() / 2, 0x55), &[], "is damaged"), fresh);
    assert_eq!(refused(&changed(60, 0x55), &[], "is damaged"), fresh);
    assert_eq!(refused(&changed(8, 9), &[], "from a newer trill"), fresh);
    assert_eq!(refused(b"Dear diary", &[], "no session file"), fresh);
    refused(&sound, &["--cache-type", "q8"], "--cache-type f16");
    refused(&sound, &["--stochastic-signs", "5"], "computed in another way");
    // A tail that never became whole is cut, and the rest serves.
    let (_, told) = {
        fs::write(&file, &sound[..sound.len() - 40]).unwrap();
        both(tell(text, "12", &["--session", &file]))
    };
    assert!(restored(&told).is_some() || told.is_empty(), "{told}");
    // A folder, a place that is not there, a device.
    for place in [folder.file(""), folder.file("no/such"), "/dev/full".to_owned()] {
        let (said, told) = both(tell(text, "12", &["--session", &place]));
        assert!(said == fresh && told.contains("not saved") && told.lines().count() == 1, "{place}: {told}");
    }
    // Another process has it.
    fs::write(&file, &sound).unwrap();
    let held = File::open(&file).unwrap();
    held.lock().unwrap();
    let (said, told) = both(tell(text, "12", &["--session", &file]));
    assert!(said == fresh && told.contains("in use by another trill"), "{told}");
    drop(held);
    assert!(restored(&both(tell(text, "12", &["--session", &file])).1).is_some());
}

/// Files may not become longer than this.
fn with_room(mut command: Command, bytes: u64) -> Command {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: setrlimit is async-signal-safe and reads `limit` only.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command
}

#[test]
fn a_full_disk_stops_the_saving_only() {
    let folder = Folder::new("session-full");
    let (whole, _) = said(talk(&MESSAGES[..4], &[]));
    let file = folder.file("s");
    said(talk(&MESSAGES[..4], &["--session", &file]));
    let length = fs::metadata(&file).unwrap().len();
    fs::remove_file(&file).unwrap();
    for room in (0..length).step_by((length / 12) as usize) {
        let (text, told) = said(with_room(talk(&MESSAGES[..4], &["--session", &file]), room));
        assert_eq!(text, whole, "room for {room} bytes");
        assert!(told.lines().count() == 1 && told.contains("saved"), "room for {room} bytes: {told}");
        let there = messages_in(&file, &[]);
        // The last that fails may be the seal behind a whole record.
        assert!(there <= 8 && there.is_multiple_of(2), "room for {room} bytes: {there} messages");
        let (rest, _) = said(talk(&MESSAGES[there / 2..4], &["--session", &file]));
        assert!(whole.ends_with(&rest) && messages_in(&file, &[]) == 8, "room for {room} bytes");
        fs::remove_file(&file).unwrap();
    }
    assert!(folder.names().is_empty(), "{:?}", folder.names());
}

/// Kills a running conversation `kills` times at random moments; after each, what is in the file must go on as it would
/// have.
fn killed(kills: usize, kv: &str) {
    let folder = Folder::new(&format!("session-killed-{kv}"));
    let (file, copy) = (folder.file("s"), folder.file("copy"));
    let more = ["--cache-type", kv];
    let start = Instant::now();
    let (whole, _) = said(talk(&MESSAGES, &[&["--session", &copy], &more[..]].concat()));
    let mut took = start.elapsed();
    let mut state = 11u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f64 / f64::from(1u32 << 31)
    };
    let (mut done, mut moments) = (0, [0; MESSAGES.len() + 1]);
    let mut killed = 0;
    while killed < kills {
        let mut child = talk(&MESSAGES[done..], &[&["--session", &file], &more[..]].concat());
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("trill starts");
        std::thread::sleep(took.mul_f64(random() * (1.0 - done as f64 / 11.0)));
        // One that has ended already was not killed, and the next is given less time.
        let ended = child.try_wait().expect("a child").is_some();
        took = took.mul_f64(if ended { 0.8 } else { 1.02 });
        killed += usize::from(!ended);
        let _ = child.kill();
        child.wait().expect("trill ends");
        if !fs::exists(&file).unwrap() {
            continue;
        }
        fs::copy(&file, &copy).unwrap();
        let there = messages_in(&copy, &more);
        assert!(there.is_multiple_of(2) && there / 2 >= done, "{there} messages after {done} were whole");
        done = there / 2;
        moments[done] += 1;
        let (rest, _) = said(talk(&MESSAGES[done..], &[&["--session", &copy], &more[..]].concat()));
        assert!(whole.ends_with(&rest), "{done} messages, then {rest:?}, not the end of {whole:?}");
        if done == MESSAGES.len() {
            fs::remove_file(&file).unwrap();
            done = 0;
        }
    }
    println!("{kv}: killed {kills} times; messages answered by then: {moments:?}");
}

#[test]
fn killed_at_any_moment_it_goes_on() {
    killed(12, "q4");
}

/// `cargo test --test binary -- --ignored killed_500`.
#[test]
#[ignore = "takes minutes"]
fn killed_500_times_it_goes_on() {
    TYPES.iter().for_each(|kv| killed(125, kv));
}

/// Holds a conversation at a terminal; what was shown on it and what was told beside it.
fn at_terminal(lines: &[&str], state: &str, more: &[&str]) -> String {
    let (mut master, mut slave) = (0, 0);
    // SAFETY: openpty fills the two descriptors; the other arguments may be null.
    let made = unsafe {
        libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut())
    };
    assert_eq!(made, 0, "a terminal");
    // SAFETY: both descriptors were just made and belong to nobody else.
    let (mut master, slave) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
    let model = stories();
    let line = ["chat", "-m", &model, "-n", "12", "--temp", "0", "-t", "1"];
    let mut command = trill(&[&line[..], more].concat());
    command.env("XDG_STATE_HOME", state).env("TERM", "dumb");
    command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.spawn().expect("trill starts");
    drop(command);
    let mut shown = Vec::new();
    for line in lines.iter().chain(&["/quit"]) {
        // The next prompt, then the line.
        let mut byte = [0];
        let mut prompt = String::new();
        while !prompt.ends_with("> ") && master.read(&mut byte).is_ok_and(|n| n > 0) {
            prompt.push(char::from(byte[0]));
            shown.push(byte[0]);
        }
        let _ = master.write_all(format!("{line}\r").as_bytes());
    }
    // The terminal ends with an error when the last of its users does.
    let mut rest = Vec::new();
    let _ = master.read_to_end(&mut rest);
    child.wait().expect("trill ends");
    shown.extend(rest);
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn a_conversation_at_a_terminal_is_kept_by_itself() {
    let folder = Folder::new("session-terminal");
    let state = folder.file("");
    let kept = || {
        let names = fs::read_dir(folder.0.join("trill/sessions")).map(|all| all.flatten().collect::<Vec<_>>());
        names.unwrap_or_default()
    };
    at_terminal(&[MESSAGES[0]], &state, &["--no-session"]);
    assert_eq!(kept().len(), 0);
    let shown = at_terminal(&[MESSAGES[0], MESSAGES[1]], &state, &[]);
    assert!(restored(&shown).is_none() && kept().len() == 1, "{shown}");
    let shown = at_terminal(&[MESSAGES[2]], &state, &[]);
    assert!(restored(&shown).is_some() && shown.contains("of 4 messages goes on"), "{shown}");
    let length = || kept()[0].metadata().unwrap().len();
    let before = length();
    let shown = at_terminal(&["/new"], &state, &[]);
    assert!(shown.contains("of 6 messages goes on"), "{shown}");
    assert!(kept().len() == 1 && length() < before / 4, "what was said is gone: {} of {before}", length());
    // What every conversation begins with is not read again.
    let shown = at_terminal(&[], &state, &[]);
    assert!(restored(&shown).is_some_and(|n| n < 10) && !shown.contains("messages goes on"), "{shown}");
    let shown = at_terminal(&[MESSAGES[3]], &state, &["-sys", "Be brief."]);
    assert!(restored(&shown).is_none() && shown.contains("a new conversation: those kept"), "{shown}");
    let shown = at_terminal(&[], &state, &["-sys", "Be brief."]);
    assert!(shown.contains("of 2 messages goes on") && kept().len() == 2, "{shown}");
    for file in kept() {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn wrong_usage_of_sessions() {
    let model = stories();
    for line in [
        &["logits", "-m", &model, "--tokens", "1,2", "--all", "--session", "x"][..],
        &["chat", "-m", &model, "--session", "x", "--no-session"],
    ] {
        assert_eq!(run(trill(line), "").status.code(), Some(64));
    }
    let said: Value = json(trill(&["run", "-m", &model, "-p", "Once", "-n", "3", "--json"]));
    assert_eq!(said["timings"]["prompt_reused"], 0);
}
