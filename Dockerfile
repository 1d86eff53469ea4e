# epigone in a container: the server by default, any other command after the image's name. docs/containers.md says how.
#   docker build -t epigone .
# For NVIDIA: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
ARG TORCH=torch
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python3 -m venv /opt/epigone
# PyTorch by itself: the layer of a gigabyte stays as it is when the source changes.
RUN /opt/epigone/bin/python -m pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH"
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN /opt/epigone/bin/python -m pip install --no-cache-dir "/source[pdf,parquet]"

FROM ${BASE}
LABEL org.opencontainers.image.title="epigone" \
      org.opencontainers.image.description="Learns to write on in the voice of a text, and serves what it has learned." \
      org.opencontainers.image.licenses="MIT"
RUN useradd --system --uid 10001 --home-dir /epigone --no-create-home --shell /usr/sbin/nologin epigone \
    && install -d -o 10001 -g 0 -m 0770 /epigone /epigone/runs
COPY --from=build /opt/epigone /opt/epigone
# Nothing is written but what is in the volume and in /tmp: the root may be read-only.
ENV PATH=/opt/epigone/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    EPIGONE_CACHE=/epigone/runs/.cache/epigone \
    HF_HOME=/epigone/runs/.cache/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /epigone
VOLUME /epigone/runs
USER 10001
EXPOSE 8611
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8611/health', timeout=4)"]
ENTRYPOINT ["epigone"]
# Beyond the container a token is required: EPIGONE_TOKEN, or the one that is made and shown.
CMD ["serve", "--host", "0.0.0.0"]
