# The page and the API of mien in a container:
#     docker build -t mien . && docker run --rm -p 127.0.0.1:8000:8000 -e MIEN_TOKEN mien
# Options of mien serve go behind the image's name.
# tools/try_dockerfile.py follows these steps where no container engine is at hand; it knows FROM, ENV, WORKDIR, COPY,
# RUN, USER, EXPOSE, STOPSIGNAL, HEALTHCHECK,
# ENTRYPOINT and CMD, and wants lists in brackets (no shell).
FROM python:3.12-slim

ENV PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /build
COPY ["pyproject.toml", "README.md", "LICENSE", "./"]
COPY ["src", "./src"]
RUN ["python", "-m", "pip", "install", ".[serve,postgres]"]

# Nothing below needs to write anywhere but in the folder for temporary files.
WORKDIR /tmp
RUN ["rm", "-r", "/build"]
USER 10001:10001

EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["mien", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD []
