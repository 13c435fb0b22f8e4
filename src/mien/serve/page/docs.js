// The page of the REST API: Swagger UI on this server's own description, all of it from this host.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null });
