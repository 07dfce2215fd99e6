//go:build tools

// Package operator fixes the version of the Kubeflow training operator, whose command is built.
package operator

import _ "github.com/kubeflow/training-operator/cmd/training-operator.v1"
