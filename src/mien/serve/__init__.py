"""The page and the REST API of `mien serve`: pictures, videos and camera frames in, faces with expressions out.

Needs the extra `serve`. Begin with `app.build`, which puts all together; `server.run` is what the command calls;
`app` holds the addresses and `live` those of the camera, `middleware` what holds for every request, `batcher` gathers
pictures of many clients for the network, `jobs` and `video_worker` do videos.
"""
