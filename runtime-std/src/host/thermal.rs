//! Temperatures, as Linux reports them.

use std::fs;
use std::path::Path;

/// Each thermal zone's name and temperature; empty where the system shows none.
pub(crate) fn zones() -> Vec<String> {
    read(Path::new("/sys/class/thermal"))
}

fn read(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut zones: Vec<String> = entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("thermal_zone"))
        .filter_map(|e| {
            let value = |file: &str| fs::read_to_string(e.path().join(file)).ok();
            let millidegrees: i64 = value("temp")?.trim().parse().ok()?;
            let name = value("type").map_or_else(String::new, |t| t.trim().to_owned());
            Some(format!("{name} {:.1} °C", millidegrees as f64 / 1000.0))
        })
        .collect();
    zones.sort();
    zones
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_read_and_nonsense_is_left_out() {
        let root = std::env::temp_dir().join(format!("trill-thermal-{}", std::process::id()));
        for (zone, temp) in [("thermal_zone0", "48500\n"), ("thermal_zone1", "hot"), ("cooling_device0", "3")] {
            fs::create_dir_all(root.join(zone)).unwrap();
            fs::write(root.join(zone).join("temp"), temp).unwrap();
            fs::write(root.join(zone).join("type"), "cpu-thermal\n").unwrap();
        }
        assert_eq!(read(&root), ["cpu-thermal 48.5 °C"]);
        fs::remove_dir_all(&root).unwrap();
        assert!(read(&root).is_empty());
    }
}
