use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    name: String,
    database: Database,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    listeners: Vec<Listener>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Database {
    url: String,
    pool: u32,
    #[serde(default)]
    #[serde(with = "crate::duration::option")]
    timeout: Option<std::time::Duration>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listener {
    port: u16,
}

const DEFAULTS: Layer<'_> =
    Layer { origin: "defaults", text: "name = \"a\"\n[database]\nurl = \"sqlite:x\"\npool = 5\n" };

fn read_all(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment: Vec<(String, String)> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let file = Layer { origin: "server.toml", text: file };
    read(DEFAULTS, Some(file), "HETUFLOW_SERVER", &environment).map_err(|problems| problems.to_string())
}

#[test]
fn the_higher_layer_wins() {
    let config = read_all(
        "[database]\npool = 7\n[labels]\nrole = \"web\"\n[[listeners]]\nport = 1\n",
        &[
            ("HETUFLOW_SERVER__DATABASE__URL", "postgres://x/y?z=1"),
            ("HETUFLOW_SERVER__DATABASE__TIMEOUT", "5s"),
            ("HETUFLOW_SERVER__LABELS__Site", "\"fra\""),
            ("HETUFLOW_SERVER__LABELS__ROLE", "db"),
            ("HETUFLOW_AGENT__NAME", "not ours"),
            ("HETUFLOW_SERVERS", "not ours"),
            ("PATH", "/bin"),
        ],
    )
    .expect("a configuration");
    assert_eq!(config.name, "a");
    assert_eq!((config.database.url.as_str(), config.database.pool), ("postgres://x/y?z=1", 7));
    assert_eq!(config.database.timeout, Some(std::time::Duration::from_secs(5)));
    assert_eq!(config.labels["role"], "db");
    assert_eq!(config.labels["site"], "fra");
    assert_eq!(config.listeners, [Listener { port: 1 }]);
}

#[test]
fn a_text_in_the_environment_may_look_like_a_number() {
    let config = read_all("", &[("HETUFLOW_SERVER__NAME", "1234"), ("HETUFLOW_SERVER__DATABASE__POOL", "9")]);
    let config = config.expect("a configuration");
    assert_eq!((config.name.as_str(), config.database.pool), ("1234", 9));
}

#[test]
fn every_problem_is_reported_with_its_place() {
    let file = "nam = \"b\"\n[database]\npool = \"many\"\nurll = \"x\"\n[[listeners]]\nport = 70000\n[extra]\na = 1\n";
    let environment =
        [("HETUFLOW_SERVER__DATABASE__POL", "9"), ("HETUFLOW_SERVER__DATABASE__TIMEOUT", "never")];
    let problems = read_all(file, &environment).expect_err("must be refused");
    let expected = [
        "server.toml:1:1: unknown key \"nam\" (did you mean \"name\"? Allowed: name, database, labels, listeners)",
        "server.toml:3:8: database.pool: invalid type: string \"many\", expected u32",
        "server.toml:4:1: unknown key \"database.urll\" (did you mean \"url\"? Allowed: url, pool, timeout)",
        "server.toml:5:1: listeners: invalid value: integer `70000`, expected u16",
        "server.toml:7:2: unknown key \"extra\" (allowed: name, database, labels, listeners)",
        "HETUFLOW_SERVER__DATABASE__POL: unknown key \"database.pol\" (did you mean \"pool\"? Allowed: url, pool, timeout)",
        "HETUFLOW_SERVER__DATABASE__TIMEOUT: database.timeout: \"never\" is not a duration: write whole seconds (30) \
         or a text with a unit (\"250ms\", \"5m\", \"1h 30m\")",
    ];
    assert_eq!(problems.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_missing_everywhere_is_named() {
    let defaults = Layer { origin: "defaults", text: "name = \"a\"" };
    let problems = read::<Config>(defaults, None, "X", &[]).expect_err("must be refused");
    assert_eq!(problems.to_string(), "defaults: missing field `database`");
    let defaults = Layer { origin: "defaults", text: "name = \"a\"\n[database]\npool = 1" };
    let problems = read::<Config>(defaults, None, "X", &[]).expect_err("must be refused");
    assert_eq!(problems.to_string(), "defaults:2:1: database: missing field `url`");
}

#[test]
fn a_table_in_the_place_of_a_value() {
    let problems = read_all("database = 5\n[name]\na = 1\n", &[("HETUFLOW_SERVER__NAME__B", "1")]);
    let problems = problems.expect_err("must be refused");
    assert!(problems.contains("server.toml:1:12: database: invalid type: integer `5`"), "{problems}");
    assert!(problems.contains("server.toml:2:1: name: invalid type: map"), "{problems}");
}

#[test]
fn a_file_that_is_no_toml_says_where() {
    let problems = read_all("name = a\n[database\n", &[]).expect_err("must be refused");
    assert!(problems.starts_with("server.toml:1:8: "), "{problems}");
    assert!(problems.contains("\nserver.toml:2:10: "), "{problems}");
}

#[test]
fn each_value_says_where_it_comes_from() {
    let environment = [("HETUFLOW_SERVER__DATABASE__URL".to_owned(), "postgres://x/y".to_owned())];
    let file = Layer { origin: "server.toml", text: "[labels]\nrole = \"web\"\n[database]\npool = 7\n" };
    let (_, settings) =
        read_explained::<Config>(DEFAULTS, Some(file), "HETUFLOW_SERVER", &environment).expect("it parses");
    let told: Vec<String> =
        settings.iter().map(|one| format!("{} = {} {}", one.keys.join("."), one.value, one.origin)).collect();
    let expected = [
        "database.pool = 7 server.toml",
        "database.url = \"postgres://x/y\" HETUFLOW_SERVER__DATABASE__URL",
        "labels.role = \"web\" server.toml",
        "name = \"a\" defaults",
    ];
    assert_eq!(told, expected);
}
