// Program starlark evaluates a Tiltfile without Tilt: every builtin that the file calls is a stub
// that records the call. It prints the calls as JSON, or the error and exit code 1.
//
// Usage: starlark FILE [--flag=value ...]; the flags answer config.parse().
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
	"go.starlark.net/syntax"
)

type call struct {
	Name string         `json:"name"`
	Args []any          `json:"args,omitempty"`
	Set  map[string]any `json:"set,omitempty"`
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: starlark FILE [--flag=value ...]")
		os.Exit(2)
	}
	calls, err := evaluate(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(calls); err != nil {
		os.Exit(1)
	}
}

func evaluate(file string, flags []string) ([]call, error) {
	calls := []call{}
	stub := func(name string, result func(starlark.Tuple) starlark.Value) *starlark.Builtin {
		return starlark.NewBuiltin(name, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			recorded := call{Name: name, Set: map[string]any{}}
			for _, arg := range args {
				recorded.Args = append(recorded.Args, plain(arg))
			}
			for _, pair := range kwargs {
				recorded.Set[string(pair[0].(starlark.String))] = plain(pair[1])
			}
			calls = append(calls, recorded)
			return result(args), nil
		})
	}
	none := func(starlark.Tuple) starlark.Value { return starlark.None }
	text := func(args starlark.Tuple) starlark.Value { return starlark.String(fmt.Sprintf("<%v>", args)) }
	settings := new(starlark.Dict)
	for _, flag := range flags {
		name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		var v starlark.Value = starlark.String(value)
		if value == "" || value == "true" {
			v = starlark.True
		}
		if err := settings.SetKey(starlark.String(name), v); err != nil {
			return nil, err
		}
	}
	names := starlark.StringDict{}
	for _, name := range []string{"allow_k8s_contexts", "analytics_settings", "version_settings", "ci_settings", "update_settings", "k8s_kind", "k8s_resource", "k8s_yaml", "local_resource", "docker_build", "custom_build", "watch_settings", "watch_file", "load_dynamic", "secret_settings"} {
		names[name] = stub(name, none)
	}
	for _, name := range []string{"local", "helm", "kustomize", "read_file", "blob", "probe", "http_get_action", "exec_action", "tcp_socket_action", "port_forward", "link"} {
		names[name] = stub(name, text)
	}
	names["k8s_context"] = stub("k8s_context", func(starlark.Tuple) starlark.Value { return starlark.String("kind-kanarie") })
	names["fail"] = starlark.NewBuiltin("fail", func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
		return nil, fmt.Errorf("fail: %v", args)
	})
	names["config"] = module("config", starlark.StringDict{
		"define_bool":     stub("config.define_bool", none),
		"define_string":   stub("config.define_string", none),
		"parse":           stub("config.parse", func(starlark.Tuple) starlark.Value { return settings }),
		"tilt_subcommand": starlark.String("up"),
		"main_dir":        starlark.String(filepath.Dir(file)),
	})
	names["os"] = module("os", starlark.StringDict{
		"getenv": stub("os.getenv", func(starlark.Tuple) starlark.Value { return starlark.String("") }),
		"getcwd": stub("os.getcwd", func(starlark.Tuple) starlark.Value { return starlark.String(filepath.Dir(file)) }),
	})
	thread := &starlark.Thread{Name: "tiltfile"}
	options := &syntax.FileOptions{TopLevelControl: true, GlobalReassign: true, Set: true}
	_, err := starlark.ExecFileOptions(options, thread, file, nil, names)
	return calls, err
}

func module(name string, members starlark.StringDict) starlark.Value {
	return starlarkstruct.FromStringDict(starlark.String(name), members)
}

// plain turns a Starlark value into what encoding/json writes.
func plain(value starlark.Value) any {
	switch v := value.(type) {
	case starlark.String:
		return string(v)
	case starlark.Bool:
		return bool(v)
	case starlark.Int:
		n, _ := v.Int64()
		return n
	case starlark.NoneType:
		return nil
	case *starlark.Dict:
		out := map[string]any{}
		for _, item := range v.Items() {
			out[fmt.Sprint(plain(item[0]))] = plain(item[1])
		}
		return out
	case starlark.Iterable:
		out := []any{}
		iterator := v.Iterate()
		defer iterator.Done()
		var element starlark.Value
		for iterator.Next(&element) {
			out = append(out, plain(element))
		}
		return out
	}
	return value.String()
}
