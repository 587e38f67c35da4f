//go:build tools

// Package tools pins the programs that tests and demo start: a Kubernetes API server, its
// database and kubectl.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
