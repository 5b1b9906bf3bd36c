//! Control groups: the share of the machine that a container, a service manager or a login session gives us.
//! Version 1 and version 2 may be mounted side by side; a group is bound by every group above it.

use super::kept;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// The folders of this process's group and of those above it, version 2.
pub(crate) fn version_2() -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    hierarchy_2(Path::new(ROOT), &own)
}

/// Bytes that the tightest group still gives; `None` where no group has a limit.
pub(crate) fn memory_left() -> Option<u64> {
    let own = kept::read("/proc/self/cgroup").unwrap_or_default();
    memory_left_in(Path::new(ROOT), &own)
}

fn hierarchy_2(root: &Path, own: &str) -> Vec<PathBuf> {
    let path = own.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/");
    // Beside version 1, version 2 has a folder of its own.
    let hybrid = root.join("unified");
    upwards(if hybrid.is_dir() { &hybrid } else { root }, path)
}

/// `path` under `root`, and every folder on the way up to `root`. Inside a container the path may be the host's: then
/// only the upper ones exist.
fn upwards(root: &Path, path: &str) -> Vec<PathBuf> {
    let mut folder = root.join(path.trim_start_matches('/'));
    let mut all = Vec::new();
    while folder.starts_with(root) {
        all.push(folder.clone());
        folder.pop();
    }
    all
}

fn memory_left_in(root: &Path, own: &str) -> Option<u64> {
    let number = |path: PathBuf| kept::read(path).ok()?.trim().parse::<u64>().ok();
    let version_2 = hierarchy_2(root, own).into_iter().filter_map(|folder| {
        // Above `memory.high` a group is slowed down until it gives memory back: as good as a limit.
        let limits = ["memory.max", "memory.high"].map(|name| number(folder.join(name)));
        let most = limits.into_iter().flatten().min()?;
        Some(most.saturating_sub(in_use(&folder, number(folder.join("memory.current"))?, "")))
    });
    let path = own.lines().find_map(|l| {
        let (controllers, path) = l.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|c| c == "memory").then_some(path)
    });
    let version_1 = upwards(&root.join("memory"), path.unwrap_or("/")).into_iter().filter_map(|folder| {
        // "Unlimited" is a number just under 2^63 here.
        let most = number(folder.join("memory.limit_in_bytes")).filter(|&most| most < 1 << 60)?;
        Some(most.saturating_sub(in_use(&folder, number(folder.join("memory.usage_in_bytes"))?, "total_")))
    });
    version_2.chain(version_1).min()
}

/// Memory used less the pages of files, which the kernel can drop; those of our own model are among them.
fn in_use(folder: &Path, used: u64, prefix: &str) -> u64 {
    let stat = kept::read(folder.join("memory.stat")).unwrap_or_default();
    let field = |name: &str| {
        let name = format!("{prefix}{name} ");
        stat.lines().find_map(|l| l.strip_prefix(&name)?.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    used.saturating_sub(field("inactive_file")).saturating_sub(field("active_file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Tree {
            let root = std::env::temp_dir().join(format!("trill-cgroup-{name}-{}", std::process::id()));
            fs::create_dir_all(&root).unwrap();
            Tree(root)
        }

        fn put(&self, file: &str, text: &str) {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let tree = Tree::new("v2");
        let own = "0::/a/b\n";
        assert_eq!(memory_left_in(&tree.0, own), None);
        tree.put("a/b/memory.max", "max\n");
        tree.put("a/b/memory.current", "500\n");
        assert_eq!(memory_left_in(&tree.0, own), None);
        tree.put("a/memory.max", "10000\n");
        tree.put("a/memory.current", "4000\n");
        assert_eq!(memory_left_in(&tree.0, own), Some(6000));
        tree.put("a/memory.stat", "anon 500\ninactive_file 1000\nactive_file 200\nfile 9\n");
        assert_eq!(memory_left_in(&tree.0, own), Some(7200));
        tree.put("a/b/memory.high", "600\n");
        assert_eq!(memory_left_in(&tree.0, own), Some(100));
        // A path from outside the container: the groups that exist count.
        assert_eq!(memory_left_in(&tree.0, "0::/a/no/such\n"), Some(7200));
        assert_eq!(memory_left_in(&tree.0, ""), None);
    }

    #[test]
    fn version_1_walks_up_too() {
        let tree = Tree::new("v1");
        let own = "4:memory:/x/y\n0::/\n";
        tree.put("memory/x/y/memory.limit_in_bytes", "9223372036854771712\n");
        tree.put("memory/x/y/memory.usage_in_bytes", "1\n");
        assert_eq!(memory_left_in(&tree.0, own), None);
        tree.put("memory/x/memory.limit_in_bytes", "5000\n");
        tree.put("memory/x/memory.usage_in_bytes", "2000\n");
        tree.put("memory/x/memory.stat", "inactive_file 1\ntotal_inactive_file 500\ntotal_active_file 100\n");
        assert_eq!(memory_left_in(&tree.0, own), Some(3600));
        // Both versions at once: the tighter one.
        tree.put("unified/memory.max", "300\n");
        tree.put("unified/memory.current", "100\n");
        assert_eq!(memory_left_in(&tree.0, own), Some(200));
    }
}
