//! The list of commands in `belfry --help`, in groups by purpose.

use std::fmt::Write;

use clap::Command;

/// The groups, and the commands of each.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Run", &["demo", "serve", "migrate", "config", "doctor", "completions"]),
    ("Events", &["publish", "tail", "explain", "dead-letter", "parked"]),
    ("Rules", &["plugin", "replay", "trial", "release"]),
    ("Operate", &["pause", "sink", "position", "topics", "audit", "compare", "audit-log", "token"]),
];

/// Lists the commands in groups. clap can only list them in one.
pub fn with_groups(command: Command) -> Command {
    let styles = command.get_styles();
    let (heading, literal) = (styles.get_header(), styles.get_literal());
    let width = GROUPS.iter().flat_map(|(_, names)| names.iter()).map(|name| name.len()).max().unwrap_or_default();
    let mut groups = String::new();
    for (title, names) in GROUPS {
        let _ = writeln!(groups, "{heading}{title}:{heading:#}");
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(groups, "  {literal}{name:<width$}{literal:#}  {about}");
        }
        groups.push('\n');
    }
    let template = format!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}{{all-args}}{{after-help}}");
    // What is hidden can still be run.
    let usage = format!("{} [OPTIONS] <COMMAND>", command.get_name());
    command.override_usage(usage).help_template(template).mut_subcommands(|subcommand| subcommand.hide(true))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::Cli;

    #[test]
    fn each_command_is_in_one_group() {
        let command = Cli::command();
        let visible = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()).map(Command::get_name);
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        assert_eq!(grouped.iter().copied().collect::<BTreeSet<_>>(), visible.collect());
        assert_eq!(grouped.len(), grouped.iter().collect::<BTreeSet<_>>().len());
    }

    #[test]
    fn the_list_fits_a_terminal() {
        let help = with_groups(Cli::command()).render_help().to_string();
        let long: Vec<&str> = help.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(long.is_empty(), "{long:#?}");
        assert!(help.contains("\nOperate:\n  pause "), "{help}");
        assert!(help.contains("\nGlobal options:\n"), "{help}");
    }

    #[test]
    fn each_command_has_an_example() {
        fn check(command: &Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let mut subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()).peekable();
            if subcommands.peek().is_none() {
                let help = command.clone().render_long_help().to_string();
                assert!(help.contains("\nExample"), "{path} has no example");
                assert!(help.contains(&format!("\n  {}", path.trim())) || help.contains("| belfry"), "{path}: {help}");
            }
            subcommands.for_each(|subcommand| check(subcommand, &path));
        }
        check(&Cli::command(), "");
    }
}
