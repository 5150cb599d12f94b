-- A role that posts events and reads nothing.
ALTER TABLE belfry.access_token DROP CONSTRAINT access_token_role_check;
ALTER TABLE belfry.access_token ADD CONSTRAINT access_token_role_check
  CHECK (role IN ('producer', 'viewer', 'publisher', 'operator', 'admin'));
