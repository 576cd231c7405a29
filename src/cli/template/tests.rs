//! What templates give, and what is refused.

use serde_json::json;

use super::*;

fn rendered(text: &str) -> Result<String, TemplateError> {
    let value = json!({
        "Id": "sha256:1",
        "Size": 12,
        "RepoTags": ["a:1", "b:2"],
        "None": null,
        "Config": { "Env": ["A=1", "B=<2>"], "Labels": { "x": "1", "y.z": "2" }, "Cmd": null },
    });
    Template::parse(text)?.render(&value)
}

#[test]
fn templates_are_carried_out_as_go_does() {
    for (template, expected) in [
        ("{{.Id}}", "sha256:1"),
        ("{{ .Id }}:{{.Size}}", "sha256:1:12"),
        ("a\\tb\\n", "a\tb\n"),
        ("{{json .Config.Env}}", r#"["A=1","B=<2>"]"#),
        ("{{.Config.Env | json}}", r#"["A=1","B=<2>"]"#),
        ("{{json .None}}", "null"),
        ("{{.Config.Env}}", "[A=1 B=<2>]"),
        ("{{.Config.Labels}}", "map[x:1 y.z:2]"),
        ("{{.Config.Labels.x}}", "1"),
        ("{{.Config.Labels.none}}", "<no value>"),
        ("{{index .RepoTags 0}}", "a:1"),
        (r#"{{index .Config.Labels "y.z"}}"#, "2"),
        (r#"{{index .Config.Labels "none"}}"#, ""),
        ("{{index (index .RepoTags) 1}}", "b:2"),
        ("{{range .RepoTags}}{{.}} {{end}}", "a:1 b:2 "),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
            "x=1;y.z=2;",
        ),
        (
            "{{range $e := .RepoTags}}{{$e}}{{$.Size}}{{end}}",
            "a:112b:212",
        ),
        ("{{if .None}}a{{else if .Size}}b{{else}}c{{end}}", "b"),
        ("{{if not .None}}a{{end}}", "a"),
        ("{{len .RepoTags}}", "2"),
        (r#"{{join .RepoTags ","}}"#, "a:1,b:2"),
        ("{{upper .Id}}", "SHA256:1"),
        ("a {{- .Size -}} b", "a12b"),
        ("{{/* nothing */}}x", "x"),
        (r#"{{"a}}b"}}"#, "a}}b"),
    ] {
        assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_its_name() {
    for (template, needle) in [
        ("{{printf \"%s\" .Id}}", "\"printf\""),
        ("{{with .Id}}{{end}}", "\"with\""),
        ("{{eq .Id 1}}", "\"eq\""),
        ("{{.Nope}}", "\"Nope\""),
        ("{{.Id", "without its"),
        ("{{if .Id}}", "lacks"),
        ("{{end}}", "too many"),
        ("{{}}", "an empty action"),
        ("{{.Id .Size}}", "\".Size\""),
        ("{{$x}}", "\"$x\""),
        ("{{index .RepoTags 7}}", "index 7"),
        ("{{range .Id}}{{end}}", "a text"),
        ("{{json}}", "json with 0 arguments"),
        ("{{(.Id}}", "\"(\""),
        ("{{.A..B}}", "\".A..B\""),
        ("{{\"}}", "without its"),
    ] {
        let message = rendered(template).unwrap_err().to_string();
        assert!(message.contains(needle), "{template}: {message}");
    }
}
