//! Where conversations are kept when nobody says where.

use super::format::Owner;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Bytes of a model's name in a file's name.
const NAME_BYTES: usize = 40;

/// `$XDG_STATE_HOME/trill/sessions`, by default `~/.local/state/trill/sessions`; made if it is not there.
pub(crate) fn folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    let folder = state.join("trill/sessions");
    // If that fails, opening the file tells why.
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    Some(folder)
}

/// What of a model's name goes into a file's name.
fn plain(model: &Path) -> String {
    let name = model.file_stem().unwrap_or_default().to_string_lossy();
    let keep = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    name.chars().map(keep).take(NAME_BYTES).collect()
}

/// The file of `owner`'s conversation with `model`. Another model, template, system message or cache type has
/// another file. The flag says whether this model has conversations, but not this one.
pub(crate) fn automatic(model: &Path, owner: &Owner) -> Option<(PathBuf, bool)> {
    let (folder, name) = (folder()?, plain(model));
    let path = folder.join(format!("{name}-{}.session", owner.file_name()));
    let others = || {
        let mut names = std::fs::read_dir(&folder).ok()?.flatten().map(|entry| entry.file_name());
        let of_model = |file: &str| {
            let rest = file.strip_prefix(&name)?.strip_prefix('-')?.strip_suffix(".session")?;
            Some(rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        Some(names.any(|file| file.to_str().and_then(of_model) == Some(true)))
    };
    let others = !path.exists() && others() == Some(true);
    Some((path, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        assert_eq!(plain(Path::new("/a/b c\u{e9}.Q4_1.gguf")), "b_c_.Q4_1");
        assert_eq!(plain(Path::new(&"x".repeat(100))).len(), NAME_BYTES);
    }
}
