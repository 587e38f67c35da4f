//go:build tools

// Package tools pins the Helm that lints and renders the charts.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
