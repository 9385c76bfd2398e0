# syntax=docker/dockerfile:1
# One image for every process: web (`serve`), worker (`serve --worker`), `migrate` and all other commands of `carafe`.
# It runs as user 10001 on a read-only root file system; /tmp is the only place that is written to.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# The environment: what the lock file names and nothing else, wheels alone, so that no compiler is needed. It has no pip;
# the base image's installs into it.
FROM ${PYTHON_IMAGE} AS environment
RUN python -m venv --without-pip /opt/carafe
COPY requirements-runtime.lock /opt/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/carafe/bin/python --disable-pip-version-check install --root-user-action=ignore --no-compile \
        --require-hashes --only-binary :all: -r /opt/requirements-runtime.lock
# The Kubernetes client's second copy of itself, for asyncio, is a quarter of all this and used by nobody here.
RUN rm -rf /opt/carafe/lib/python3*/site-packages/kubernetes/aio && /opt/carafe/bin/python -c "import kubernetes.client"
# The library and the service lie side by side in /app, as in the repository.
RUN echo /app > "$(/opt/carafe/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/app.pth"
COPY --chmod=755 <<END /opt/carafe/bin/carafe
#!/opt/carafe/bin/python
import sys
from carafe.cli import main
sys.exit(main())
END
# Bytecode that is never compared with its source: the fastest start, and the same bytes whenever it is made.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/carafe/lib

FROM ${PYTHON_IMAGE} AS sources
WORKDIR /app
COPY carafe carafe
COPY briefings briefings
COPY app app
COPY worker worker
# Its [tool.carafe] names the service's modules.
COPY pyproject.toml ./
RUN python -m compileall -q --invalidation-mode unchecked-hash .

FROM ${PYTHON_IMAGE} AS base
COPY --from=environment /opt/carafe /opt/carafe
ENV PATH=/opt/carafe/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
EXPOSE 8080 8081 8082 8083
STOPSIGNAL SIGTERM
USER 10001:10001

# For `tilt up` alone: sources that can be replaced while it runs, and a first process that starts them again.
FROM base AS live
COPY --chown=10001:10001 deploy/tilt/restart.py /opt/restart.py
COPY --chown=10001:10001 carafe carafe
COPY --chown=10001:10001 briefings briefings
COPY --chown=10001:10001 app app
COPY --chown=10001:10001 worker worker
COPY --chown=10001:10001 pyproject.toml ./
ENTRYPOINT ["python", "/opt/restart.py", "carafe"]

FROM base AS image
COPY --from=sources /app /app
ENTRYPOINT ["carafe"]
# Last, so that commits with the same content share every layer.
ARG REVISION=unknown
LABEL org.opencontainers.image.title="carafe" \
      org.opencontainers.image.description="Background jobs for Python web applications: web, worker and commands in one image" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
