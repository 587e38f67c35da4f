//! The fields of a schema, and for each a value that it refuses.
//!
//! Takes a structural schema of Kubernetes; gives its fields by path, and the nearest value beyond the
//! bounds of one. Knows nothing of rules that are more than bounds.

use serde_json::{Map, Value, json};

/// Calls `see` for every field below a schema, parents first: path, schema, whether it is
/// required.
pub fn each_field(path: &str, schema: &Value, see: &mut dyn FnMut(&str, &Value, bool)) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let required =
            schema["required"].as_array().is_some_and(|all| all.iter().any(|r| r == name));
        see(&path, field, required);
        each_field(&path, field, see);
        if !field["items"].is_null() {
            let path = format!("{path}[]");
            each_field(&path, &field["items"], see);
        }
    }
}

/// The nearest value that a field refuses, and how a page shows it; none for what has no bounds.
pub fn beyond(field: &Value) -> Option<(Value, String)> {
    let bound = |key: &str| field[key].as_u64().and_then(|bound| usize::try_from(bound).ok());
    match field["type"].as_str()? {
        "integer" => {
            let (least, most) = (field["minimum"].as_f64()?, field["maximum"].as_f64()?);
            // Zero is what people try; a negative number is what they do not.
            let odd = if least > 0.0 { least - 1.0 } else { most + 1.0 };
            Some((json!(odd as i64), format!("`{odd}`")))
        }
        "string" if field["enum"].is_array() => Some((json!("Sometimes"), "`Sometimes`".into())),
        "string" if bound("minLength").is_some() => Some((json!(""), "`\"\"`".into())),
        "string" => {
            let length = bound("maxLength")? + 1;
            Some((json!("x".repeat(length)), format!("{length} characters")))
        }
        "array" if bound("minItems").is_some_and(|least| least > 0) => {
            Some((json!([]), "`[]`".into()))
        }
        "array" => {
            let items = bound("maxItems")? + 1;
            let item = if field["items"]["type"] == "string" { json!("x") } else { json!({}) };
            Some((Value::Array(vec![item; items]), format!("{items} items")))
        }
        _ => None,
    }
}

/// The value at `path` of an object, `a.b[0].c`.
pub fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    object.pointer(&pointer(path))
}

/// Writes the value at `path` of an object, with what is missing on the way.
pub fn put(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    for key in pointer(path).split('/').skip(1) {
        place = if let Ok(index) = key.parse::<usize>() {
            if !place.is_array() {
                *place = json!([]);
            }
            let Value::Array(items) = place else { return };
            while items.len() <= index {
                items.push(json!({}));
            }
            &mut items[index]
        } else {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            &mut place[key]
        };
    }
    *place = value;
}

fn pointer(path: &str) -> String {
    let indexed = path.replace("[]", "[0]").replace('[', ".").replace(']', "");
    format!("/{}", indexed.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_a_bound_is_the_nearest_value() {
        let shown = |field: Value| beyond(&field).map(|(_, shown)| shown);
        let number = |least, most| json!({"type": "integer", "minimum": least, "maximum": most});
        assert_eq!(shown(number(1, 9)).as_deref(), Some("`0`"));
        assert_eq!(shown(number(0, 9)).as_deref(), Some("`10`"));
        let text = json!({"type": "string", "maxLength": 640});
        assert_eq!(shown(text).as_deref(), Some("641 characters"));
        assert_eq!(shown(json!({"type": "boolean"})), None);
    }

    #[test]
    fn a_value_is_put_where_it_is_found() {
        let mut object = json!({"a": {"b": 1}});
        put(&mut object, "a.c[].d", json!(2));
        assert_eq!(object, json!({"a": {"b": 1, "c": [{"d": 2}]}}));
        assert_eq!(at(&object, "a.c[0].d"), Some(&json!(2)));
    }
}
