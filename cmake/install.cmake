# Install rules come with the package config.
