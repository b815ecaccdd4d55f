# docker buildx bake [TARGET]: every image. `make images` builds them for this machine, a release for both.

variable "VERSION" { default = "dev" }
variable "REVISION" { default = "unknown" }
# A registry and a path before the names, with a slash behind; nothing locally.
variable "REGISTRY" { default = "" }
# A release sets a digest: python:3.11-slim-bookworm@sha256:...
variable "BASE" { default = "python:3.11-slim-bookworm" }
# Empty: no vendor's library in the worker's image.
variable "RKLLM_VERSION" { default = "1.3.0" }

group "default" { targets = ["nats", "model-store", "gateway", "npu-worker"] }

target "common" {
  context = "."
  args = {
    BASE     = BASE
    VERSION  = VERSION
    REVISION = REVISION
  }
}

target "nats" {
  inherits   = ["common"]
  dockerfile = "services/nats/Dockerfile"
  tags       = ["${REGISTRY}rkllama-nats:${VERSION}"]
}

target "model-store" {
  inherits   = ["common"]
  dockerfile = "services/model-store/Dockerfile"
  tags       = ["${REGISTRY}rkllama-model-store:${VERSION}"]
}

target "gateway" {
  inherits   = ["common"]
  dockerfile = "services/gateway/Dockerfile"
  tags       = ["${REGISTRY}rkllama-gateway:${VERSION}"]
}

target "npu-worker" {
  inherits   = ["common"]
  dockerfile = "services/npu-worker/Dockerfile"
  args       = { RKLLM_VERSION = RKLLM_VERSION }
  tags       = ["${REGISTRY}rkllama-npu-worker:${VERSION}"]
}
